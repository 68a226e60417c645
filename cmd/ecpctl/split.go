package main

import (
	"bytes"
	"strings"
)

// chunk is one document of a YAML stream.
type chunk struct {
	text []byte
	// line is how many lines of the stream are before it.
	line int
}

// splitYAML cuts a stream at its document markers, lines that begin with
// "---" or "...". Documents without content are left out.
func splitYAML(stream []byte) []chunk {
	stream = bytes.TrimPrefix(stream, []byte("\xef\xbb\xbf"))
	var chunks []chunk
	var now chunk
	content, marked := false, false
	end := func(next int) {
		if content {
			chunks = append(chunks, now)
		}
		now, content, marked = chunk{line: next}, false, false
	}
	for n, line := range bytes.SplitAfter(stream, []byte("\n")) {
		text := strings.TrimRight(string(line), " \t\r\n")
		switch {
		case isMarker(text, "..."):
			end(n + 1)
			continue
		case isMarker(text, "---"):
			if content || marked {
				end(n)
			}
			marked = true
			content = hasContent(text[len("---"):])
		case !marked && strings.HasPrefix(text, "%"): // a directive of the document to come
		default:
			content = content || hasContent(text)
		}
		now.text = append(now.text, line...)
	}
	end(0)
	return chunks
}

func isMarker(line, marker string) bool {
	rest, ok := strings.CutPrefix(line, marker)
	return ok && (rest == "" || rest[0] == ' ' || rest[0] == '\t')
}

func hasContent(line string) bool {
	line = strings.TrimSpace(line)
	return line != "" && !strings.HasPrefix(line, "#")
}
