package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestExitCodes(t *testing.T) {
	for line, want := range map[string]struct {
		code   int
		stdout string
		stderr string
	}{
		"":                              {0, "Available Commands", ""},
		"version":                       {0, "envoy-control-plane dev", ""},
		"serve --help":                  {0, "[SERVER_PORT]", ""},
		"nonsense":                      {2, "", "nonsense"},
		"serve --nonsense":              {2, "", "--nonsense"},
		"serve extra":                   {2, "", "extra"},
		"serve --bind nowhere":          {2, "", "--bind"},
		"migrate --database-url=":       {2, "", "DATABASE_URL"},
		"doctor -o xml":                 {2, "", "-o"},
		"doctor extra":                  {2, "", "extra"},
		"doctor --data-dir /nowhere":    {1, "unreadable", "not the data directory of a node"},
		"recover --data-dir /nowhere":   {2, "", "--voters"},
		"recover --voters n1":           {2, "", "--voters"},
		"recover --voters n1=h:1 extra": {2, "", "extra"},
		"recover --data-dir /nowhere --voters n1=h:70": {1, "", "not the data directory of a node"},
		"health --http-port 1":                         {1, "", "connection refused"},
		"dev --nodes 0 --postgres none":                {1, "", "must be a node"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(line), &stdout, &stderr); code != want.code {
			t.Errorf("%q: exit code %d, want %d: %s", line, code, want.code, stderr.String())
		}
		if !strings.Contains(stdout.String(), want.stdout) || !strings.Contains(stderr.String(), want.stderr) {
			t.Errorf("%q: said %q and %q", line, stdout.String(), stderr.String())
		}
	}
}

func TestCommandsHaveExamples(t *testing.T) {
	for _, c := range commands() {
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s has no help or no example", c.Name())
		}
	}
}
