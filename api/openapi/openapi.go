// Package openapi holds the OpenAPI document of the REST API: the one source
// of its outside. A node serves it as it is, tests hold every request and
// answer against it (see the package checker), and the table of routes in
// package api has to agree with it.
package openapi

import (
	_ "embed"
	"fmt"

	"sigs.k8s.io/yaml"
)

//go:embed openapi.yaml
var document []byte

// JSON returns the document as JSON, as /api/v1/openapi.json serves it.
func JSON() ([]byte, error) {
	out, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return nil, fmt.Errorf("convert the OpenAPI document: %w", err)
	}
	return out, nil
}
