package load

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// An operation's id is in what it writes: in a revision's message, and in the
// address of an endpoint.
func messageOf(id int) string { return "op " + strconv.Itoa(id) }

func addressOf(id int) string {
	return fmt.Sprintf("10.%d.%d.%d", id>>16&0xff, id>>8&0xff, id&0xff)
}

var addressPattern = regexp.MustCompile(`"10\.(\d+)\.(\d+)\.(\d+)"`)

// WriterOf returns the id in a message or in an assignment's JSON, 0 for none.
func WriterOf(text string) int {
	if rest, ok := strings.CutPrefix(text, "op "); ok {
		id, _ := strconv.Atoi(rest)
		return id
	}
	id := 0
	if m := addressPattern.FindStringSubmatch(text); m != nil {
		for _, part := range m[1:] {
			n, _ := strconv.Atoi(part)
			id = id<<8 | n
		}
	}
	return id
}
