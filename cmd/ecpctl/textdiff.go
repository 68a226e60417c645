package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/org/envoy-control-plane/api/wire"
)

const (
	// contextLines are shown around a difference.
	contextLines = 3
	// maxCells bounds the table of a comparison; beyond it the differing
	// middle is shown as replaced.
	maxCells = 4 << 20
)

// sayDiff prints changes with their messages' differences, as YAML.
func (a *app) sayDiff(changes []wire.Change) {
	for _, ch := range changes {
		a.sayLine(fmt.Sprintf("%s %s %s", ch.Op, ch.Type, clean(ch.Name)), "\x1b[1m")
		for _, line := range unified(yamlLines(ch.Before), yamlLines(ch.After)) {
			a.sayLine("  "+line, colourOf(line))
		}
	}
}

func (a *app) sayLine(line, colour string) {
	if colour == "" || !a.colours() {
		a.say("%s", line)
		return
	}
	a.say("%s%s\x1b[0m", colour, line)
}

func colourOf(line string) string {
	switch line[0] {
	case '+':
		return "\x1b[32m"
	case '-':
		return "\x1b[31m"
	case '@':
		return "\x1b[36m"
	default:
		return ""
	}
}

// yamlLines is a message as lines of YAML, nil for none.
func yamlLines(raw json.RawMessage) []string {
	if len(raw) == 0 {
		return nil
	}
	text, err := yaml.JSONToYAML(raw)
	if err != nil {
		text = raw // not what a node sends; show it as it is
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i := range lines {
		lines[i] = clean(lines[i])
	}
	return lines
}

// edit is one line of a comparison: kept ' ', removed '-' or added '+'.
type edit struct {
	op   byte
	text string
}

// unified compares lines and returns the differences with some lines around
// them, in the manner of diff -u.
func unified(before, after []string) []string {
	edits := compare(before, after)
	near := make([]bool, len(edits))
	for i, e := range edits {
		if e.op == ' ' {
			continue
		}
		for j := max(i-contextLines, 0); j <= min(i+contextLines, len(edits)-1); j++ {
			near[j] = true
		}
	}
	var out []string
	a, b := 1, 1 // line numbers
	for i, e := range edits {
		if near[i] {
			if i == 0 || !near[i-1] {
				out = append(out, fmt.Sprintf("@@ -%d +%d @@", a, b))
			}
			out = append(out, string(e.op)+e.text)
		}
		if e.op != '+' {
			a++
		}
		if e.op != '-' {
			b++
		}
	}
	return out
}

// compare finds a shortest way from one text to the other.
func compare(before, after []string) []edit {
	head := 0
	for head < min(len(before), len(after)) && before[head] == after[head] {
		head++
	}
	tail := 0
	for tail < min(len(before), len(after))-head && before[len(before)-1-tail] == after[len(after)-1-tail] {
		tail++
	}
	edits := keep(nil, before[:head])
	edits = append(edits, compareMiddle(before[head:len(before)-tail], after[head:len(after)-tail])...)
	return keep(edits, before[len(before)-tail:])
}

func keep(edits []edit, lines []string) []edit {
	for _, l := range lines {
		edits = append(edits, edit{' ', l})
	}
	return edits
}

// compareMiddle follows a table of the longest common subsequences.
func compareMiddle(a, b []string) []edit {
	var edits []edit
	i, j := 0, 0
	if len(a)*len(b) <= maxCells {
		common := commonLengths(a, b)
		for i < len(a) && j < len(b) {
			switch {
			case a[i] == b[j]:
				edits = append(edits, edit{' ', a[i]})
				i, j = i+1, j+1
			case common[i+1][j] >= common[i][j+1]:
				edits = append(edits, edit{'-', a[i]})
				i++
			default:
				edits = append(edits, edit{'+', b[j]})
				j++
			}
		}
	}
	for ; i < len(a); i++ {
		edits = append(edits, edit{'-', a[i]})
	}
	for ; j < len(b); j++ {
		edits = append(edits, edit{'+', b[j]})
	}
	return edits
}

// commonLengths[i][j] is the length of the longest common subsequence of a[i:]
// and b[j:].
func commonLengths(a, b []string) [][]int32 {
	lengths := make([][]int32, len(a)+1)
	for i := range lengths {
		lengths[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				lengths[i][j] = lengths[i+1][j+1] + 1
			} else {
				lengths[i][j] = max(lengths[i+1][j], lengths[i][j+1])
			}
		}
	}
	return lengths
}
