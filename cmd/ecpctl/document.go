package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// document is one Envoy message and where it was read.
type document struct {
	raw json.RawMessage
	// origin is "listener.yaml (document 1)".
	origin string
}

// readDocuments reads files, the files of folders, and standard input ("-").
// Its error names everything that could not be read.
func readDocuments(paths []string, recursive bool, stdin io.Reader) ([]document, error) {
	var docs []document
	var errs []error
	for _, path := range paths {
		files, err := filesOf(path, recursive)
		errs = append(errs, err)
		for _, file := range files {
			found, err := readFile(file, stdin)
			docs, errs = append(docs, found...), append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("there is no document in %s", strings.Join(paths, ", "))
	}
	return docs, nil
}

// filesOf lists the files that a path stands for, in order of their names.
func filesOf(path string, recursive bool) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var files []string
	err = filepath.WalkDir(path, func(at string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case at == path:
			return nil
		case strings.HasPrefix(entry.Name(), "."), entry.IsDir() && !recursive:
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(at)):
			files = append(files, at)
		}
		return nil
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("there is no .yaml, .yml or .json file in %s", path)
	}
	return files, err
}

func readFile(path string, stdin io.Reader) ([]document, error) {
	name, read := path, func() ([]byte, error) { return os.ReadFile(path) }
	if path == "-" {
		name, read = "stdin", func() ([]byte, error) { return io.ReadAll(stdin) }
	}
	text, err := read()
	if err != nil {
		return nil, err
	}
	return parse(name, text)
}

// parse reads a stream of JSON values or YAML documents.
func parse(name string, text []byte) ([]document, error) {
	var values []document
	var errs []error
	if looksLikeJSON(name, text) {
		values, errs = parseJSON(name, text)
	} else {
		values, errs = parseYAML(name, text)
	}
	var docs []document
	for _, v := range values {
		items, err := expand(v)
		docs, errs = append(docs, items...), append(errs, err)
	}
	return docs, errors.Join(errs...)
}

// looksLikeJSON tells JSON from YAML in flow style, which begins like it.
func looksLikeJSON(name string, text []byte) bool {
	if strings.HasSuffix(name, ".json") {
		return true
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 || text[0] != '{' && text[0] != '[' {
		return false
	}
	var first json.RawMessage
	return json.NewDecoder(bytes.NewReader(text)).Decode(&first) == nil
}

func parseJSON(name string, text []byte) ([]document, []error) {
	var docs []document
	d := json.NewDecoder(bytes.NewReader(text))
	for n := 1; ; n++ {
		rest := text[d.InputOffset():]
		start := len(text) - len(bytes.TrimLeft(rest, " \t\r\n"))
		var raw json.RawMessage
		err := d.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		origin := fmt.Sprintf("%s (document %d)", name, n)
		if err != nil {
			line := 1 + bytes.Count(text[:start], []byte("\n"))
			return docs, []error{fmt.Errorf("%s, from line %d on: %w", origin, line, err)}
		}
		docs = append(docs, document{raw, origin})
	}
}

func parseYAML(name string, text []byte) ([]document, []error) {
	var docs []document
	var errs []error
	for i, c := range splitYAML(text) {
		origin := fmt.Sprintf("%s (document %d)", name, i+1)
		// Empty lines in front make the parser count as the file does.
		padded := append(bytes.Repeat([]byte("\n"), c.line), c.text...)
		raw, err := yaml.YAMLToJSONStrict(padded)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", origin, err))
			continue
		}
		docs = append(docs, document{raw, origin})
	}
	return docs, errs
}
