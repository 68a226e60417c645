package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/wire"
)

// everyCommand visits all commands but cobra's own help.
func everyCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		if sub.Name() != "help" {
			everyCommand(sub, visit)
		}
	}
}

func TestEveryCommandExplainsItself(t *testing.T) {
	a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	n := 0
	everyCommand(a.rootCommand(), func(cmd *cobra.Command) {
		n++
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s has the short text %q", cmd.CommandPath(), cmd.Short)
		}
		if !strings.Contains(cmd.Example, cmd.CommandPath()) && !strings.Contains(cmd.Example, cmd.Name()) {
			t.Errorf("%s has no example of itself", cmd.CommandPath())
		}
		if cmd.RunE == nil {
			t.Errorf("%s does nothing", cmd.CommandPath())
		}
	})
	if n < 25 {
		t.Errorf("only %d commands were seen", n)
	}
}

// TestExamplesAreValid has every example's command line understood.
func TestExamplesAreValid(t *testing.T) {
	a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	everyCommand(a.rootCommand(), func(cmd *cobra.Command) {
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			_, line, found := strings.Cut(line, "ecpctl ")
			if !found {
				t.Errorf("%s: the example %q runs no ecpctl", cmd.CommandPath(), line)
				continue
			}
			args := words(line)
			b := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
			root := b.rootCommand()
			target, rest, err := root.Find(args)
			if err == nil {
				err = target.ParseFlags(rest)
			}
			if err == nil {
				err = target.ValidateArgs(target.Flags().Args())
			}
			if err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), line, err)
			}
		}
	})
}

// words splits a shell's command up to the first operator.
func words(line string) []string {
	var out []string
	var word strings.Builder
	quoted := false
	for _, r := range line + " " {
		switch {
		case r == '"':
			quoted = !quoted
		case quoted || !strings.ContainsRune(" |>&)", r):
			word.WriteRune(r)
		default:
			if word.Len() > 0 {
				out = append(out, word.String())
				word.Reset()
			}
			if r != ' ' {
				return out
			}
		}
	}
	return out
}

func TestMisuseExitsWithTwo(t *testing.T) {
	tests := map[string]string{
		"":                              "ecpctl needs one of: apply, archive, backup, bootstrap",
		"frobnicate":                    `unknown command "frobnicate"`,
		"get":                           "ecpctl get needs one of: fleets, resources",
		"get things":                    `unknown command "things"`,
		"apply":                         "-f is needed",
		"apply --frob":                  "unknown flag: --frob",
		"apply -f - --wait 30s":         "write --wait=30s",
		"apply -f - x":                  `ecpctl apply takes no argument, there is "x"`,
		"apply -f - --dry-run --wait":   "nothing to --wait for",
		"apply -f - --wait=-1s":         "must not be negative",
		"apply -f - --wait=soon":        "invalid argument",
		"get fleets -o xml":             "it is table, json or yaml",
		"get fleets a b":                "accepts at most 1 arg",
		"get resources":                 "--fleet is needed",
		"get revisions --fleet e x":     `"x" is not a revision`,
		"--timeout 0s get fleets":       "--timeout must be positive",
		"--server ftp://x get fleets":   "the scheme must be http or https",
		"rollback --fleet edge":         "--to is needed",
		"rollback --to 3":               "--fleet is needed",
		"diff":                          "--fleet is needed",
		"diff --fleet edge one":         `"one" is not a revision`,
		"diff --fleet edge -f - 1":      "either files or revisions",
		"history --since yesterday":     "neither a time",
		"history --limit -1":            "--limit must not be negative",
		"proxies --status gone":         "connected or disconnected",
		"proxies p --fleet edge":        "not from one proxy",
		"endpoints put web":             "-f",
		"endpoints put web host:80":     "is not IP:port",
		"endpoints put web 1.2.3.4:0":   "no port from 1 to 65535",
		"endpoints put -f x web":        "either files or a service",
		"cluster drain x --within -1s":  "must not be negative",
		"cluster read-only perhaps":     `takes no argument, there is "perhaps"`,
		"secrets put x":                 "--cert and --key",
		"secrets put -f x y":            "either -f or a name",
		"create tenant a --label x":     "is not name=value",
		"delete resource cluster x":     "--fleet is needed",
		"bootstrap p":                   "--fleet is needed",
		"bootstrap --fleet edge":        "accepts 1 arg",
		"bootstrap p --fleet f --xds h": "xDS address",
		"bootstrap p --fleet f --metrics-interval 1ms":                    "--metrics-interval",
		"token create --role admin":                                       "--subject is needed",
		"token create --subject a":                                        "it is viewer, operator or admin",
		"token create --subject a --role admin --ttl 0s":                  "--ttl",
		"token create --subject a --role admin":                           "there is no secret",
		"--tenant x token create --subject a --role viewer --all-tenants": "either --tenant or --all-tenants",
		"completion tcsh":                                                 `invalid argument "tcsh"`,
	}
	for line, want := range tests {
		t.Run(line, func(t *testing.T) {
			ecpctl(t, "", "", strings.Fields(line)...).exits(exitUsage).complains("ecpctl: ", want)
		})
	}
}

func TestHelpIsNoMistake(t *testing.T) {
	ecpctl(t, "", "", "--help").exits(exitDone).prints("Exit codes: 0 done", "ECP_TOKEN")
	ecpctl(t, "", "", "apply", "--help").exits(exitDone).prints("Examples:", "--wait duration[=30s]")
	ecpctl(t, "", "", "completion", "bash").exits(exitDone).prints("__start_ecpctl")
	ecpctl(t, "", "", "version", "--client").exits(exitDone).prints("ecpctl")
}

func TestSecretsInTheEnvironmentStayOutOfTheHelp(t *testing.T) {
	t.Setenv("ECP_TOKEN", "very-secret")
	if r := ecpctl(t, "", "", "--help"); strings.Contains(r.out, "very-secret") {
		t.Error("the help shows the token")
	}
}

func TestEnvironmentAndFlags(t *testing.T) {
	s := newCanned(t)
	var auth string
	list := func(w http.ResponseWriter, r *http.Request, _ []byte) {
		auth = r.Header.Get("Authorization")
		reply(w, 200, wire.List[wire.Fleet]{Items: []wire.Fleet{{Name: "edge", Revision: 3}}})
	}
	s.onFunc("GET /tenants/acme/fleets", list)
	s.onFunc("GET /tenants/other/fleets", list)
	t.Setenv("ECP_SERVER", s.url)
	t.Setenv("ECP_TENANT", "acme")
	t.Setenv("ECP_TOKEN", "one")
	ecpctl(t, "", "", "get", "fleets").exits(exitDone).prints("edge")
	if auth != "Bearer one" {
		t.Errorf("Authorization is %q", auth)
	}
	ecpctl(t, "", "", "get", "fleets", "--tenant", "other", "--token", "two").exits(exitDone)
	if auth != "Bearer two" || !strings.HasSuffix(s.order(), "GET /tenants/other/fleets") {
		t.Errorf("Authorization is %q after\n%s", auth, s.order())
	}
	ecpctl(t, "", "", "get", "fleets", "--server", "http://127.0.0.1:1").exits(exitFailed).
		complains("connection refused", "--server or ECP_SERVER")
}

func TestRefusalsAreToldInFull(t *testing.T) {
	s := newCanned(t)
	s.onFunc("GET /tenants/default/fleets/edge", func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		problem(w, wire.CodeInvalid, wire.FieldError{Path: "a.b", Detail: "first"}, wire.FieldError{Path: "c", Detail: "second"})
	})
	ecpctl(t, s.url, "", "get", "fleets", "edge").exits(exitFailed).
		complains("ecpctl: invalid_argument: the body has a mistake", "\n  a.b: first\n", "\n  c: second\n")
	s.onFunc("GET /tenants", func(w http.ResponseWriter, _ *http.Request, _ []byte) { problem(w, wire.CodeUnauthenticated) })
	ecpctl(t, s.url, "", "get", "tenants").exits(exitFailed).complains("unauthenticated: ", "ECP_TOKEN")
	s.onFunc("GET /cluster", func(w http.ResponseWriter, _ *http.Request, _ []byte) { problem(w, wire.CodeInternal) })
	ecpctl(t, s.url, "", "cluster").exits(exitFailed).complains("internal: ", "request id: r1")
	s.onFunc("DELETE /tenants/x", func(w http.ResponseWriter, _ *http.Request, _ []byte) { problem(w, wire.CodeInternal) })
	ecpctl(t, s.url, "", "delete", "tenant", "x").exits(exitFailed).
		complains("it is not known whether the write was applied: internal", "before you repeat it")
}

func TestAnInterruptEndsIt(t *testing.T) {
	s := newCanned(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.onFunc("GET /cluster", func(_ http.ResponseWriter, r *http.Request, _ []byte) {
		cancel()
		<-r.Context().Done()
	})
	var stderr strings.Builder
	code := run(ctx, []string{"--server", s.url, "cluster"}, strings.NewReader(""), io.Discard, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
}

func TestClusterTellsOfTheArchive(t *testing.T) {
	s := newCanned(t)
	s.on("GET /cluster", 200, wire.Cluster{
		ID: "c1", Archive: wire.ArchiveStatus{State: "down", LastSeq: 9, ArchivedSeq: 7, OutboxBytes: 100, Reason: "no route"},
	})
	ecpctl(t, s.url, "", "cluster", "list").exits(exitDone).
		prints("cluster c1, leader unknown", "archive down, 7 of 9 events, 100 bytes waiting: no route")
}

func TestTextFromElsewhereCannotDriveTheTerminal(t *testing.T) {
	s := newCanned(t)
	s.on("GET /tenants/default/proxies", 200, wire.List[wire.Proxy]{Items: []wire.Proxy{
		{ID: "a\x1b[2J\tb\nc\u202e", Status: "connected"},
	}})
	r := ecpctl(t, s.url, "", "proxies").exits(exitDone).prints("a\uFFFD[2J b c\uFFFD")
	if strings.ContainsAny(r.out, "\x1b\u202e") || strings.Count(r.out, "\n") != 2 {
		t.Errorf("output is %q", r.out)
	}
}
