package main

import (
	"encoding/json"
	"fmt"
)

const (
	typePrefix     = "type.googleapis.com/"
	wrapperType    = typePrefix + "envoy.service.discovery.v3.Resource"
	assignmentType = typePrefix + "envoy.config.endpoint.v3.ClusterLoadAssignment"
	secretType     = typePrefix + "envoy.extensions.transport_sockets.tls.v3.Secret"
)

// envelope is what ecpctl must know of a document.
type envelope struct {
	Type      string            `json:"@type"`
	Items     []json.RawMessage `json:"items"`
	Resources []json.RawMessage `json:"resources"`
	Resource  json.RawMessage   `json:"resource"`

	ClusterName  string `json:"cluster_name"`
	ClusterCamel string `json:"clusterName"`

	// Of what "ecpctl get -o yaml" prints.
	Kind    string   `json:"type"`
	Name    string   `json:"name"`
	Service string   `json:"service"`
	Version string   `json:"version"`
	Aliases []string `json:"aliases"`
	TTL     string   `json:"ttl"`
}

// expand returns the messages in a document: those of a list, those that
// "ecpctl get" printed, or the document itself.
func expand(d document) ([]document, error) {
	if isArray(d.raw) {
		var items []json.RawMessage
		if err := json.Unmarshal(d.raw, &items); err != nil {
			return nil, fmt.Errorf("%s: %w", d.origin, err)
		}
		return expandAll(d, items)
	}
	e, err := open(d)
	if err != nil {
		return nil, err
	}
	switch {
	case e.Type != "":
		return []document{d}, nil
	case e.Items != nil:
		return expandAll(d, e.Items)
	case e.Resources != nil:
		return expandAll(d, e.Resources)
	case e.Resource != nil:
		return rewrap(d, e)
	default:
		return nil, fmt.Errorf("%s: it has no @type", d.origin)
	}
}

func expandAll(d document, items []json.RawMessage) ([]document, error) {
	var docs []document
	for i, raw := range items {
		origin := fmt.Sprintf("%s, item %d)", d.origin[:len(d.origin)-1], i+1)
		found, err := expand(document{raw, origin})
		if err != nil {
			return nil, err
		}
		docs = append(docs, found...)
	}
	return docs, nil
}

// rewrap turns what "ecpctl get" printed back into what the API takes: a
// resource into the form that carries its name apart, endpoints into the
// message alone. What only looks like it goes to the API as it is.
func rewrap(d document, e *envelope) ([]document, error) {
	switch {
	case e.Version != "" && e.Service != "":
		return []document{{e.Resource, d.origin}}, nil
	case e.Version == "" || e.Kind == "":
		return []document{d}, nil
	}
	wrapper := map[string]any{"@type": wrapperType, "name": e.Name, "resource": e.Resource}
	if len(e.Aliases) > 0 {
		wrapper["aliases"] = e.Aliases
	}
	if e.TTL != "" {
		wrapper["ttl"] = e.TTL
	}
	raw, err := json.Marshal(wrapper)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.origin, err)
	}
	return []document{{raw, d.origin}}, nil
}

func open(d document) (*envelope, error) {
	var e envelope
	if len(d.raw) == 0 || d.raw[0] != '{' {
		return nil, fmt.Errorf("%s: it is not an object", d.origin)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(d.raw, &fields); err != nil {
		return nil, fmt.Errorf("%s: %w", d.origin, err)
	}
	// A field of another shape belongs to a message of Envoy's, not to us.
	for name, into := range map[string]any{
		"@type": &e.Type, "items": &e.Items, "resources": &e.Resources, "resource": &e.Resource,
		"cluster_name": &e.ClusterName, "clusterName": &e.ClusterCamel,
		"type": &e.Kind, "name": &e.Name, "service": &e.Service, "version": &e.Version,
		"aliases": &e.Aliases, "ttl": &e.TTL,
	} {
		if raw, ok := fields[name]; ok {
			_ = json.Unmarshal(raw, into)
		}
	}
	return &e, nil
}

func isArray(raw json.RawMessage) bool {
	return len(raw) > 0 && raw[0] == '['
}
