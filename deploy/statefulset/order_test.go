package statefulset

import (
	"context"
	"net"
	"regexp"
	"slices"
	"testing"
)

var podEvent = regexp.MustCompile(`api-server(-\d+)(?: \([0-9.]+\))?: (created|deleted|gone|ready)( false)?`)

// checkOrder holds what has happened to pods last against what was to happen,
// as far as it is of the kinds that are wanted.
func (s *set) checkOrder(t *testing.T, want []string) {
	t.Helper()
	var got []string
	for _, line := range s.trace.Lines() {
		m := podEvent.FindStringSubmatch(line)
		if m != nil && m[3] == "" && slices.Contains(want, m[1]+" "+m[2]) {
			got = append(got, m[1]+" "+m[2])
		}
	}
	if len(got) < len(want) || !slices.Equal(got[len(got)-len(want):], want) {
		t.Errorf("what has happened is %q, want %q", got, want)
	}
}

// lookup asks the DNS as programs do.
func lookup(t *testing.T, name string) ([]string, error) {
	addresses, err := (&net.Resolver{PreferGo: true}).LookupHost(context.WithoutCancel(t.Context()), name)
	slices.Sort(addresses)
	return addresses, err
}
