package xds

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Bounds of what a request may have evaluated for each proxy.
const (
	maxMatchers     = 1000
	maxMatcherDepth = 8
	maxPattern      = 1 << 10
)

// predicate decides about a proxy.
type predicate func(*fsmpb.Proxy) bool

// compile makes a predicate of matchers, of which one has to hold; of none:
// all proxies. An error says which one cannot be evaluated.
func compile(ms []*matcherv3.NodeMatcher) (predicate, error) {
	if len(ms) > maxMatchers {
		return nil, fmt.Errorf("node_matchers: at most %d, there are %d", maxMatchers, len(ms))
	}
	var options []predicate
	for i, m := range ms {
		p, err := compileNode(m)
		if err != nil {
			return nil, fmt.Errorf("node_matchers[%d].%w", i, err)
		}
		options = append(options, p)
	}
	return func(row *fsmpb.Proxy) bool {
		return len(options) == 0 || slices.ContainsFunc(options, func(p predicate) bool { return p(row) })
	}, nil
}

// compileNode makes a predicate of one matcher, all parts of which have to
// hold.
func compileNode(m *matcherv3.NodeMatcher) (predicate, error) {
	id := func(string) bool { return true }
	var err error
	if m.GetNodeId() != nil {
		if id, err = compileText(m.NodeId); err != nil {
			return nil, fmt.Errorf("node_id: %w", err)
		}
	}
	var all []predicate
	for i, sm := range m.GetNodeMetadatas() {
		p, err := compileMetadata(sm)
		if err != nil {
			return nil, fmt.Errorf("node_metadatas[%d]: %w", i, err)
		}
		all = append(all, p)
	}
	return func(row *fsmpb.Proxy) bool {
		return id(row.Id) && !slices.ContainsFunc(all, func(p predicate) bool { return !p(row) })
	}, nil
}

// metadatum is a value of a node's metadata as far as it is kept: a text, or
// the object of all labels.
type metadatum struct {
	text          string
	there, isText bool
}

// compileMetadata makes a predicate about a node's metadata, of which the
// tenant and the labels are kept.
func compileMetadata(m *matcherv3.StructMatcher) (predicate, error) {
	var path []string
	for _, s := range m.GetPath() {
		path = append(path, s.GetKey())
	}
	if len(path) == 0 || path[0] != "tenant" && path[0] != "labels" {
		return nil, fmt.Errorf("of node.metadata only tenant and labels are kept, not %.80q", strings.Join(path, "."))
	}
	value, err := compileValue(m.GetValue(), 0)
	if err != nil {
		return nil, err
	}
	return func(row *fsmpb.Proxy) bool { return value(metadataOf(row, path)) }, nil
}

func metadataOf(row *fsmpb.Proxy, path []string) metadatum {
	switch {
	case len(path) == 1 && path[0] == "tenant":
		return metadatum{row.Tenant, true, true}
	case len(path) == 1:
		return metadatum{there: len(row.Labels) > 0}
	case len(path) == 2 && path[0] == "labels":
		text, ok := row.Labels[path[1]]
		return metadatum{text, ok, ok}
	}
	return metadatum{}
}

// compileValue makes a predicate about a value. Numbers, booleans, lists and
// nulls are not among what is kept, so matchers of those never hold.
func compileValue(m *matcherv3.ValueMatcher, depth int) (func(metadatum) bool, error) {
	if depth > maxMatcherDepth {
		return nil, fmt.Errorf("value: nested more than %d deep", maxMatcherDepth)
	}
	switch m := m.GetMatchPattern().(type) {
	case *matcherv3.ValueMatcher_StringMatch:
		text, err := compileText(m.StringMatch)
		return func(v metadatum) bool { return v.isText && text(v.text) }, err
	case *matcherv3.ValueMatcher_PresentMatch:
		return func(v metadatum) bool { return v.there == m.PresentMatch }, nil
	case *matcherv3.ValueMatcher_OrMatch:
		var options []func(metadatum) bool
		for _, one := range m.OrMatch.GetValueMatchers() {
			f, err := compileValue(one, depth+1)
			if err != nil {
				return nil, err
			}
			options = append(options, f)
		}
		return func(v metadatum) bool {
			return slices.ContainsFunc(options, func(f func(metadatum) bool) bool { return f(v) })
		}, nil
	case *matcherv3.ValueMatcher_NullMatch_, *matcherv3.ValueMatcher_DoubleMatch,
		*matcherv3.ValueMatcher_BoolMatch, *matcherv3.ValueMatcher_ListMatch:
		return func(metadatum) bool { return false }, nil
	}
	return nil, fmt.Errorf("value: %T cannot be evaluated", m.GetMatchPattern())
}

// compileText makes a predicate about a text.
func compileText(m *matcherv3.StringMatcher) (func(string) bool, error) {
	fold := func(s string) string { return s }
	if m.GetIgnoreCase() {
		fold = strings.ToLower
	}
	against := func(pattern string, f func(s, pattern string) bool) (func(string) bool, error) {
		pattern = fold(pattern)
		return func(s string) bool { return f(fold(s), pattern) }, nil
	}
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return against(p.Exact, func(s, pattern string) bool { return s == pattern })
	case *matcherv3.StringMatcher_Prefix:
		return against(p.Prefix, strings.HasPrefix)
	case *matcherv3.StringMatcher_Suffix:
		return against(p.Suffix, strings.HasSuffix)
	case *matcherv3.StringMatcher_Contains:
		return against(p.Contains, strings.Contains)
	case *matcherv3.StringMatcher_SafeRegex:
		if len(p.SafeRegex.GetRegex()) > maxPattern {
			return nil, fmt.Errorf("safe_regex: longer than %d bytes", maxPattern)
		}
		re, err := regexp.Compile("^(?:" + p.SafeRegex.GetRegex() + ")$")
		if err != nil {
			return nil, fmt.Errorf("safe_regex: %w", err)
		}
		return re.MatchString, nil
	}
	return nil, fmt.Errorf("%T cannot be evaluated", m.GetMatchPattern())
}
