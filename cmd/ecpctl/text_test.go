package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/api/wire"
)

func TestSplitYAML(t *testing.T) {
	tests := []struct {
		name, in string
		want     []string
		lines    []int
	}{
		{"one", "a: 1\n", []string{"a: 1\n"}, []int{0}},
		{"two", "a: 1\n---\nb: 2", []string{"a: 1\n", "---\nb: 2"}, []int{0, 1}},
		{"empty ones", "---\n---\n# c\n---\na: 1\n---\n", []string{"---\na: 1\n"}, []int{3}},
		{"nothing", "\n# only this\n", nil, nil},
		{"windows", "a: 1\r\n---\r\nb: 2\r\n", []string{"a: 1\r\n", "---\r\nb: 2\r\n"}, []int{0, 1}},
		{"end marker", "a: 1\n...\nb: 2\n", []string{"a: 1\n", "b: 2\n"}, []int{0, 2}},
		{"on the marker", "--- {a: 1}\n--- {b: 2}\n", []string{"--- {a: 1}\n", "--- {b: 2}\n"}, []int{0, 1}},
		{"no marker", "a: |\n  ---\n  x\n----: 2\n", []string{"a: |\n  ---\n  x\n----: 2\n"}, []int{0}},
		{"directive", "%YAML 1.1\n---\na: 1\n", []string{"%YAML 1.1\n---\na: 1\n"}, []int{0}},
		{"comment of the next", "# about a\n---\na: 1\n", []string{"# about a\n---\na: 1\n"}, []int{0}},
		{"byte order mark", "\ufeffa: 1\n", []string{"a: 1\n"}, []int{0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var texts []string
			var lines []int
			for _, c := range splitYAML([]byte(tt.in)) {
				texts, lines = append(texts, string(c.text)), append(lines, c.line)
			}
			if !slices.Equal(texts, tt.want) || !slices.Equal(lines, tt.lines) {
				t.Errorf("got %q at %v, want %q at %v", texts, lines, tt.want, tt.lines)
			}
			if _, err := parse("x", []byte(tt.in)); err != nil && !strings.Contains(err.Error(), "no @type") {
				t.Errorf("parse: %v", err)
			}
		})
	}
}

// TestCompareKeepsBothTexts: whatever the texts, what is kept and removed is
// the first, what is kept and added the second; and no shorter list of edits
// exists.
func TestCompareKeepsBothTexts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func() []string {
		lines := make([]string, r.IntN(12))
		for i := range lines {
			lines[i] = string(rune('a' + r.IntN(4)))
		}
		return lines
	}
	for range 2000 {
		a, b := text(), text()
		var before, after []string
		changed := 0
		for _, e := range compare(a, b) {
			if e.op != '+' {
				before = append(before, e.text)
			}
			if e.op != '-' {
				after = append(after, e.text)
			}
			if e.op != ' ' {
				changed++
			}
		}
		if !slices.Equal(before, a) || !slices.Equal(after, b) {
			t.Fatalf("%q and %q became %q and %q", a, b, before, after)
		}
		if least := distance(a, b); changed != least {
			t.Fatalf("%q and %q: %d edits, %d would do", a, b, changed, least)
		}
	}
}

// distance is the least number of lines to remove and add, the slow way.
func distance(a, b []string) int {
	if len(a) == 0 || len(b) == 0 {
		return len(a) + len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			cost := 1 + min(row[j], row[j+1])
			if a[i] == b[j] {
				cost = diagonal
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

func TestLargeDifferencesAreCutShort(t *testing.T) {
	var a, b []string
	for i := range 3000 {
		a, b = append(a, fmt.Sprint("a", i)), append(b, fmt.Sprint("b", i))
	}
	if edits := compare(a, b); len(edits) != 6000 || edits[0].op != '-' || edits[5999].op != '+' {
		t.Errorf("%d edits", len(edits))
	}
}

func TestUnifiedShowsOnlyWhatIsNear(t *testing.T) {
	a := strings.Split("1 2 3 4 5 6 7 8 9 10 11 12", " ")
	b := slices.Clone(a)
	b[1], b[10] = "two", "eleven"
	want := "@@ -1 +1 @@/ 1/-2/+two/ 3/ 4/ 5/@@ -8 +8 @@/ 8/ 9/ 10/-11/+eleven/ 12"
	if got := strings.Join(unified(a, b), "/"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := unified(a, a); got != nil {
		t.Errorf("no difference became %q", got)
	}
}

func TestWhatAnEventSays(t *testing.T) {
	tests := map[string]string{
		`{"revision":"13","message":"why","changed":[{},{}]}`:                `revision 13, 2 changes, "why"`,
		`{"revision":13,"rollback_of":12}`:                                   "revision 13, rollback to 12",
		`{"service":"web","version":"7-ab"}`:                                 "service web",
		`{"proxy":"p","stream":{"node":"cp-1"}}`:                             "proxy p, node cp-1",
		`{"proxy":"p","rejection":{"detail":"no filter","type":"listener"}}`: "proxy p, no filter",
		`{"created":true,"labels":{}}`:                                       "created",
		`"something else"`:                                                   "",
		``:                                                                   "",
	}
	for data, want := range tests {
		if got := what(wire.Event{Data: []byte(data)}); got != want {
			t.Errorf("%s is told as %q, want %q", data, got, want)
		}
	}
}
