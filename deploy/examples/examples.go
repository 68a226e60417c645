// Package examples holds sample fleets. The dev command applies the
// quickstart.
package examples

import (
	"bytes"
	"embed"
	"fmt"
)

//go:embed quickstart/*.yaml
var files embed.FS

// Quickstart returns the sample fleet as one multi-document YAML text.
func Quickstart() ([]byte, error) {
	entries, err := files.ReadDir("quickstart")
	if err != nil {
		return nil, fmt.Errorf("quickstart: %w", err)
	}
	var out bytes.Buffer
	for _, e := range entries {
		text, err := files.ReadFile("quickstart/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("quickstart: %w", err)
		}
		fmt.Fprintf(&out, "---\n%s\n", text)
	}
	return out.Bytes(), nil
}
