package main

import (
	"maps"
	"slices"
	"strings"
)

// pairs are a map's entries as "name=value", in order.
func pairs(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, name+"="+m[name])
	}
	return out
}

// parseLabels reads name=value flags.
func parseLabels(flags []string) (map[string]string, error) {
	m := map[string]string{}
	for _, f := range flags {
		name, value, ok := strings.Cut(f, "=")
		if !ok || name == "" {
			return nil, misuse("--label %q is not name=value", f)
		}
		m[name] = value
	}
	return m, nil
}
