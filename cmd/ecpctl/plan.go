package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

// plan is what documents come to: endpoints, which are live at once, and the
// rest, which makes one revision.
type plan struct {
	endpoints []assignment
	staged    []document
}

// assignment is a ClusterLoadAssignment.
type assignment struct {
	service string
	document
}

func makePlan(docs []document) (*plan, error) {
	p := &plan{}
	var errs []error
	seen := map[string]string{}
	for _, d := range docs {
		service, isEndpoints, err := serviceOf(d)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !isEndpoints:
			p.staged = append(p.staged, d)
		case seen[service] != "":
			errs = append(errs, fmt.Errorf("%s: %s has endpoints of %q too", d.origin, seen[service], service))
		default:
			seen[service] = d.origin
			p.endpoints = append(p.endpoints, assignment{service, d})
		}
	}
	return p, errors.Join(errs...)
}

// serviceOf returns the service of a ClusterLoadAssignment, wrapped or not.
func serviceOf(d document) (service string, isEndpoints bool, err error) {
	e, err := open(d)
	if err != nil {
		return "", false, err
	}
	if (e.Type == wrapperType || e.Type == "") && e.Resource != nil {
		if inner, err := open(document{e.Resource, d.origin}); err == nil && inner.Type == assignmentType {
			return "", true, fmt.Errorf("%s: endpoints have no wrapper; give the ClusterLoadAssignment itself", d.origin)
		}
	}
	if e.Type != assignmentType {
		return "", false, nil
	}
	service = cmp.Or(e.ClusterName, e.ClusterCamel)
	if service == "" {
		return "", true, fmt.Errorf("%s: the ClusterLoadAssignment has no cluster_name", d.origin)
	}
	return service, true, nil
}

// messages are the staged documents as a change set takes them.
func (p *plan) messages() []json.RawMessage {
	raw := make([]json.RawMessage, len(p.staged))
	for i, d := range p.staged {
		raw[i] = d.raw
	}
	return raw
}

// origin turns a path into a change set, "upsert[3].name", into one into the
// files: "listener.yaml (document 1): name".
func (p *plan) origin(path string) string {
	rest, ok := strings.CutPrefix(path, "upsert[")
	number, below, closed := strings.Cut(rest, "]")
	i, err := strconv.Atoi(number)
	if !ok || !closed || err != nil || i < 0 || i >= len(p.staged) {
		return path
	}
	return within(p.staged[i].origin, strings.TrimPrefix(below, "."))
}

// within puts a path into a document behind the document's origin.
func within(origin, path string) string {
	if path == "" {
		return origin
	}
	return origin + ": " + path
}

// relocate replaces the paths of a refusal, and of the first mistake where the
// detail repeats it.
func relocate(err error, origin func(path string) string) error {
	e, ok := errors.AsType[*client.Error](err)
	if !ok || len(e.Errors) == 0 {
		return err
	}
	moved := *e
	if first := e.Errors[0].Path; first != "" {
		moved.Detail = strings.ReplaceAll(e.Detail, first+":", origin(first)+":")
	}
	moved.Errors = relocateAll(e.Errors, origin)
	if errors.Is(err, client.ErrOutcomeUnknown) {
		return fmt.Errorf("%w: %w", client.ErrOutcomeUnknown, &moved)
	}
	return &moved
}

func relocateAll(errs []wire.FieldError, origin func(path string) string) []wire.FieldError {
	out := make([]wire.FieldError, len(errs))
	for i, e := range errs {
		out[i] = e
		out[i].Path = origin(e.Path)
	}
	return out
}
