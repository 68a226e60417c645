package api

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

// maxNameBytes bounds names of resources, services and proxies.
const maxNameBytes = 1024

// ownName matches the names of tenants and fleets.
var ownName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9._]{0,61}[a-z0-9])?$`)

// checkOwnName says what is wrong with the name of a tenant or fleet, "" for
// nothing.
func checkOwnName(name string) string {
	if ownName.MatchString(name) {
		return ""
	}
	return fmt.Sprintf("%q does not match [a-z0-9]([-a-z0-9._]{0,61}[a-z0-9])?", name)
}

// checkFreeName says what is wrong with the name of a resource, service or
// proxy, "" for nothing.
func checkFreeName(name string) string {
	switch {
	case name == "":
		return "a name is needed"
	case len(name) > maxNameBytes:
		return fmt.Sprintf("a name has at most %d bytes, not %d", maxNameBytes, len(name))
	case !utf8.ValidString(name):
		return "a name is UTF-8"
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return fmt.Sprintf("%q has a character that cannot be printed", name)
		}
	}
	return ""
}

// plausibleType reports whether a type is a short one, or may be a type URL.
func plausibleType(name string) bool {
	return strings.Contains(name, ".") || fsm.TypeURL(name) != fsm.TypePrefix+name
}

// checkNames checks the path's parameters, all of them.
func (c *call) checkNames() error {
	var errs []wire.FieldError
	for _, name := range slices.Sorted(maps.Keys(c.params)) {
		value, detail := c.params[name], ""
		switch name {
		case "tenant", "fleet":
			detail = checkOwnName(value)
		case "revision":
			if n, err := strconv.ParseUint(value, 10, 64); err != nil || n == 0 {
				detail = fmt.Sprintf("%q is not the number of a revision", value)
			}
		default:
			detail = checkFreeName(value)
		}
		if detail != "" {
			errs = append(errs, wire.FieldError{Path: "path." + name, Detail: detail})
		}
	}
	if errs == nil {
		return nil
	}
	p := refuse(wire.CodeInvalidName, "the path has a name that is not allowed")
	p.Errors = errs
	return p
}
