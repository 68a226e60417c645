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

// plan is what documents come to: endpoints and secrets, which are live at
// once, and the rest, which makes one revision.
type plan struct {
	endpoints, secrets []live
	staged             []document
}

// live is a document that belongs to no revision: the ClusterLoadAssignment
// of a service, or a Secret.
type live struct {
	name string
	document
}

// liveTypes say what people call them, and which of their fields has the name.
var liveTypes = map[string]struct{ what, message, field string }{
	assignmentType: {"endpoints of", "ClusterLoadAssignment", "cluster_name"},
	secretType:     {"the secret", "Secret", "name"},
}

func makePlan(docs []document) (*plan, error) {
	p := &plan{}
	var errs []error
	seen := map[[2]string]string{}
	for _, d := range docs {
		typeURL, name, err := liveOf(d)
		key := [2]string{typeURL, name}
		switch {
		case err != nil:
			errs = append(errs, err)
		case typeURL == "":
			p.staged = append(p.staged, d)
		case seen[key] != "":
			errs = append(errs, fmt.Errorf("%s: %s has %s %q too", d.origin, seen[key], liveTypes[typeURL].what, name))
		case typeURL == secretType:
			p.secrets, seen[key] = append(p.secrets, live{name, d}), d.origin
		default:
			p.endpoints, seen[key] = append(p.endpoints, live{name, d}), d.origin
		}
	}
	return p, errors.Join(errs...)
}

// liveOf returns type and name of a document that is live, "" of one that is
// staged.
func liveOf(d document) (typeURL, name string, err error) {
	e, err := open(d)
	if err != nil {
		return "", "", err
	}
	if (e.Type == wrapperType || e.Type == "") && e.Resource != nil {
		if inner, err := open(document{e.Resource, d.origin}); err == nil {
			if t, ok := liveTypes[inner.Type]; ok {
				return "", "", fmt.Errorf("%s: give the %s itself, without a wrapper", d.origin, t.message)
			}
		}
	}
	t, ok := liveTypes[e.Type]
	if !ok {
		return "", "", nil
	}
	if name = cmp.Or(e.ClusterName, e.ClusterCamel); e.Type == secretType {
		name = e.Name
	}
	if name == "" {
		return "", "", fmt.Errorf("%s: the %s has no %s", d.origin, t.message, t.field)
	}
	return e.Type, name, nil
}

// planOfOnly is what files of one live type come to.
func (a *app) planOfOnly(typeURL string, files []string) (*plan, error) {
	docs, err := readDocuments(files, false, a.in)
	if err != nil {
		return nil, err
	}
	p, err := makePlan(docs)
	return p, errors.Join(err, p.only(typeURL))
}

// only refuses documents of any other type.
func (p *plan) only(typeURL string) error {
	others := p.staged
	for _, d := range p.secrets {
		if typeURL != secretType {
			others = append(others, d.document)
		}
	}
	for _, d := range p.endpoints {
		if typeURL != assignmentType {
			others = append(others, d.document)
		}
	}
	if len(others) == 0 {
		return nil
	}
	return fmt.Errorf("%s is not a %s", others[0].origin, liveTypes[typeURL].message)
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
