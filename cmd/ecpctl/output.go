package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/org/envoy-control-plane/api/wire"
)

// forPeople reports whether tables and sentences are wanted.
func (a *app) forPeople() bool {
	return a.output == "table"
}

// note says something on standard error.
func (a *app) note(format string, args ...any) {
	_, _ = fmt.Fprintf(a.err, format+"\n", args...)
}

// say says something on standard output, to people only.
func (a *app) say(format string, args ...any) {
	if a.forPeople() {
		_, _ = fmt.Fprintf(a.out, format+"\n", args...)
	}
}

// show prints a value in the wanted format; for people the table writes it.
func (a *app) show(v any, people func(t *table)) error {
	switch a.output {
	case "json":
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(v)
	case "yaml":
		raw, err := yaml.Marshal(v)
		if err != nil {
			return fmt.Errorf("write YAML: %w", err)
		}
		_, err = a.out.Write(raw)
		return err
	}
	t := newTable(a.out)
	people(t)
	return t.flush()
}

// list is how lists are printed in JSON and YAML.
func list[T any](items []T) wire.List[T] {
	if items == nil {
		items = []T{}
	}
	return wire.List[T]{Items: items}
}

// table aligns columns.
type table struct{ w *tabwriter.Writer }

func newTable(out io.Writer) *table {
	return &table{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
}

// row writes one line. An empty cell is a dash, so that columns can be cut.
func (t *table) row(cells ...any) {
	text := make([]string, len(cells))
	for i, cell := range cells {
		if at, ok := cell.(time.Time); ok {
			cell = instant(at)
		}
		text[i] = strings.ReplaceAll(clean(fmt.Sprint(cell)), "\t", " ")
		if text[i] == "" {
			text[i] = "-"
		}
	}
	_, _ = fmt.Fprintln(t.w, strings.Join(text, "\t")) // flush has the error
}

// line writes a line that is no row.
func (t *table) line(format string, args ...any) {
	_ = t.flush()
	_, _ = fmt.Fprintf(t.w, format+"\n", args...)
}

func (t *table) flush() error { return t.w.Flush() }

// instant is a time in RFC 3339 and UTC, empty for none.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// clean keeps text from elsewhere on its line and control characters away from
// the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return unicode.ReplacementChar
		default:
			return r
		}
	}, s)
}

// labels are "a=b,c=d", in order.
func labels(m map[string]string) string {
	return strings.Join(pairs(m), ",")
}

// plural is "1 change", "2 changes".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if before, ok := strings.CutSuffix(noun, "y"); ok {
		return fmt.Sprintf("%d %sies", n, before)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// warn prints warnings on standard error.
func (a *app) warn(warnings []wire.FieldError) {
	for _, w := range warnings {
		a.note("warning: %s", clean(place(w)))
	}
}

// deleted says what was deleted.
func (a *app) deleted(what string, d *wire.Deleted) error {
	return a.show(d, func(t *table) { t.line("%s deleted", clean(what)) })
}

// colours reports whether standard output is a terminal that wants them.
func (a *app) colours() bool {
	f, ok := a.out.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd()))
}
