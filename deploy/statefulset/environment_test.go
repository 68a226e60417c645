package statefulset

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// environment is what the container of a pod gets: what the image sets, then
// what it is given in the order in which Kubernetes does.
func (o *objects) environment(image map[string]string, p *pod) (map[string]string, error) {
	c := &p.spec().Containers[0]
	env := maps.Clone(image)
	env["HOSTNAME"] = p.name
	for _, from := range c.EnvFrom {
		var key string
		var optional *bool
		switch {
		case from.ConfigMapRef != nil:
			key, optional = "ConfigMap/"+from.ConfigMapRef.Name, from.ConfigMapRef.Optional
		case from.SecretRef != nil:
			key, optional = "Secret/"+from.SecretRef.Name, from.SecretRef.Optional
		}
		data, ok := o.data[key]
		if !ok && (optional == nil || !*optional) {
			return nil, fmt.Errorf("envFrom: there is no %s", key)
		}
		for name, value := range data {
			env[from.Prefix+name] = value
		}
	}
	for _, v := range c.Env {
		if v.ValueFrom == nil {
			env[v.Name] = expand(v.Value, env)
			continue
		}
		value, ok, err := o.valueFrom(v.ValueFrom, p)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", v.Name, err)
		}
		if ok {
			env[v.Name] = value
		}
	}
	return env, nil
}

// valueFrom looks a value up; it is not ok when it is optional and not there.
func (o *objects) valueFrom(from *corev1.EnvVarSource, p *pod) (value string, ok bool, err error) {
	switch {
	case from.FieldRef != nil:
		value, err = p.field(from.FieldRef.FieldPath)
		return value, true, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		return o.lookUp("ConfigMap/"+ref.Name, ref.Key, ref.Optional)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		return o.lookUp("Secret/"+ref.Name, ref.Key, ref.Optional)
	}
	return "", false, errors.New("this kind of valueFrom is not supported")
}

func (o *objects) lookUp(object, key string, optional *bool) (value string, ok bool, err error) {
	value, ok = o.data[object][key]
	if !ok && (optional == nil || !*optional) {
		return "", false, fmt.Errorf("%s has no key %s", object, key)
	}
	return value, ok, nil
}

var mapField = regexp.MustCompile(`^metadata\.(labels|annotations)\['([^']+)'\]$`)

// field is the downward API.
func (p *pod) field(path string) (string, error) {
	if m := mapField.FindStringSubmatch(path); m != nil {
		if m[1] == "labels" {
			return p.labels[m[2]], nil
		}
		return p.template.Annotations[m[2]], nil
	}
	fields := map[string]string{
		"metadata.name": p.name, "metadata.namespace": p.set.namespace(), "metadata.uid": p.uid,
		"spec.serviceAccountName": p.spec().ServiceAccountName, "status.podIP": p.ip, "status.podIPs": p.ip,
	}
	value, ok := fields[path]
	if !ok {
		return "", fmt.Errorf("field %s is not supported", path)
	}
	return value, nil
}

var reference = regexp.MustCompile(`\$\$|\$\([-._a-zA-Z0-9]+\)`)

// expand replaces $(NAME) by what is set before, and $$ by $. A name that is
// not set stays as it is written.
func expand(text string, env map[string]string) string {
	return reference.ReplaceAllStringFunc(text, func(found string) string {
		if found == "$$" {
			return "$"
		}
		if value, ok := env[found[2:len(found)-1]]; ok {
			return value
		}
		return found
	})
}

func expandAll(texts []string, env map[string]string) []string {
	out := slices.Clone(texts)
	for i := range out {
		out[i] = expand(out[i], env)
	}
	return out
}
