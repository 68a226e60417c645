package statefulset

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// image is what the Dockerfile's last stage makes.
type image struct {
	entrypoint, command []string
	env                 map[string]string
	// files are the local binaries, by their paths in the image.
	files map[string]string
}

// readImage takes an image from its Dockerfile. What is copied from /out is
// looked for in bin.
func readImage(dockerfile, bin string) (*image, error) {
	text, err := os.ReadFile(dockerfile)
	if err != nil {
		return nil, err
	}
	i := &image{}
	for line := range strings.SplitSeq(strings.ReplaceAll(string(text), "\\\n", " "), "\n") {
		instruction, rest, _ := strings.Cut(line, " ")
		switch instruction {
		case "FROM":
			*i = image{env: map[string]string{}, files: map[string]string{}}
		case "ENTRYPOINT":
			err = json.Unmarshal([]byte(rest), &i.entrypoint)
		case "CMD":
			err = json.Unmarshal([]byte(rest), &i.command)
		case "ENV":
			for pair := range strings.FieldsSeq(rest) {
				name, value, _ := strings.Cut(pair, "=")
				i.env[name] = value
			}
		case "COPY":
			i.copies(strings.Fields(rest), bin)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", dockerfile, instruction, err)
		}
	}
	if len(i.entrypoint) == 0 || i.files[i.entrypoint[0]] == "" {
		return nil, fmt.Errorf("%s: the entrypoint %q is none of %v", dockerfile, i.entrypoint, i.files)
	}
	return i, nil
}

func (i *image) copies(fields []string, bin string) {
	to := fields[len(fields)-1]
	for _, from := range fields[:len(fields)-1] {
		local := filepath.Join(bin, filepath.Base(from))
		if _, err := os.Stat(local); err == nil && strings.HasPrefix(from, "/out/") {
			i.files[filepath.Join(to, filepath.Base(from))] = local
		}
	}
}
