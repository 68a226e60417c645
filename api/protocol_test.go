package api_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/wire"
)

func TestUnknownPaths(t *testing.T) {
	r := newRig(t).withFleet()
	for _, path := range []string{
		"/", "/api", "/api/v1", "/api/v1/", "/api/v1/tenants/", "/api/v1/tenants//fleets", "/health/", "/API/v1/tenants",
		fleetPath + "/", fleetPath + "/rollouts", "/api/v1/tenants/default/secret", "/ws", "/metrics",
		"/api/v1/../v1/tenants", "/%2e%2e/health", fleetPath + "/resources/cluster/a/b",
	} {
		r.get(path).refused(wire.CodeUnknownPath)
		r.send(http.MethodOptions, path, "").refused(wire.CodeUnknownPath)
	}
}

func TestMethods(t *testing.T) {
	r := newRig(t).withFleet()
	for _, c := range []struct{ method, path, allow string }{
		{http.MethodPost, "/health", "GET, HEAD, OPTIONS"},
		{http.MethodPatch, fleetPath, "DELETE, GET, HEAD, OPTIONS, PUT"},
		{http.MethodGet, changePath, "OPTIONS, POST"},
		{http.MethodHead, changePath, "OPTIONS, POST"},
		{"BREW", "/api/v1/cluster", "GET, HEAD, OPTIONS"},
	} {
		got := r.send(c.method, c.path, "")
		if got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q", c.method, c.path, got.status, got.header.Get("Allow"))
		}
		if c.method != http.MethodHead {
			got.refused(wire.CodeMethodNotAllowed)
		}
		if got := r.send(http.MethodOptions, c.path, "").is(204); got.header.Get("Allow") != c.allow {
			t.Errorf("OPTIONS %s: Allow %q", c.path, got.header.Get("Allow"))
		}
	}
	head := r.send(http.MethodHead, fleetPath, "").is(200)
	if len(head.raw) != 0 || head.header.Get(wire.HeaderIndex) == "" {
		t.Errorf("HEAD: %+v", head)
	}
	r.send(http.MethodHead, fleetPath+"x", "").is(404)
}

// TestNamesWithAnyCharacter: a name's slash is no path's slash, in every
// spelling.
func TestNamesWithAnyCharacter(t *testing.T) {
	r := newRig(t)
	for i, c := range []struct{ escaped, name string }{
		{"a%2Fb", "a/b"},
		{"a%2fc", "a/c"},
		{"%2F", "/"},
		{"a%25b", "a%b"},
		{"a%252Fb", "a%2Fb"},
		{"%C3%A4%20%3F%23", "ä ?#"},
		{"a;b=c,d", "a;b=c,d"},
		{":x", ":x"},
		{"*", "*"},
		{"%2E%2E", ".."},
		{"a+b", "a+b"},
		{"%61", "a"},
	} {
		got := decoded[wire.EndpointsWritten](r.put("/api/v1/tenants/default/endpoints/"+c.escaped, `{"endpoints":[]}`), 201)
		if got.Service != c.name {
			t.Errorf("%d: %q came as %q", i, c.name, got.Service)
		}
	}
	list := decoded[wire.List[wire.Endpoints]](r.get("/api/v1/tenants/default/endpoints"), 200)
	if len(list.Items) != 12 {
		t.Errorf("%d services", len(list.Items))
	}
}

func TestMediaTypes(t *testing.T) {
	r := newRig(t).withFleet()
	for _, media := range []string{
		"text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "nonsense", "application/xml",
		"multipart/form-data; boundary=x", "application/json;charset",
	} {
		r.post(changePath, `{}`, "Content-Type", media).refused(wire.CodeUnsupportedMedia)
	}
	for _, media := range []string{"", "application/json", "Application/JSON; charset=UTF-8"} {
		r.post(changePath, `{}`, "Content-Type", media).is(200)
	}
	for _, media := range []string{"application/yaml", "application/x-yaml", "text/yaml; charset=utf-8"} {
		r.post(changePath, "message: x\ndelete: []\n", "Content-Type", media).is(200)
	}
	r.post(changePath, `{}`, "Content-Encoding", "br").refused(wire.CodeUnsupportedMedia)
	r.put(fleetPath, "labels: {a: b}", "Content-Type", "text/plain").refused(wire.CodeUnsupportedMedia)
}

func TestMalformedBodies(t *testing.T) {
	r := newRig(t).withFleet()
	for _, body := range []string{`{`, `{"upsert":[}`, `{} {}`, `{'a':1}`, "{\"message\":\"\xff\"}", `nope`, `{"message":"a",}`, strings.Repeat("[", 20000)} {
		r.post(changePath, body).refused(wire.CodeMalformedJSON)
	}
	p := r.post(changePath, "{\n \"message\": oops}").refused(wire.CodeMalformedJSON)
	if !strings.Contains(p.Detail, "line 2, column 13") {
		t.Errorf("detail: %s", p.Detail)
	}
	for _, body := range []string{"a: b: c", "a: 1\na: 2", "message: a\n---\nmessage: b", "\tx", "a: \xff", "a: *b", bomb()} {
		r.post(changePath, body, "Content-Type", "application/yaml").refused(wire.CodeMalformedYAML)
	}
	r.post(changePath, "# a comment\n---\nmessage: |\n  a\n  --- b\n", "Content-Type", "application/yaml").is(200)
}

// bomb is YAML whose aliases grow without end.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 10; i++ {
		n, last := string(rune('0'+i)), string(rune('0'+i-1))
		b.WriteString("a" + n + ": &a" + n + " [" + strings.Repeat("*a"+last+",", 9) + "*a" + last + "]\n")
	}
	return b.String()
}

func zip(t *testing.T, raw string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestBodyLimit: 10 MB as sent, in chunks too, and decompressed.
func TestBodyLimit(t *testing.T) {
	r := newRig(t).withFleet()
	big := `{"message":"` + strings.Repeat("x", 11<<20) + `"}`
	r.post(changePath, big).refused(wire.CodeBodyTooLarge)
	r.post(changePath, "message: "+strings.Repeat("x", 11<<20), "Content-Type", "application/yaml").refused(wire.CodeBodyTooLarge)
	r.sendReader(http.MethodPost, changePath, io.MultiReader(strings.NewReader(big))).refused(wire.CodeBodyTooLarge)
	r.post(changePath, zip(t, big), "Content-Encoding", "gzip").refused(wire.CodeBodyTooLarge)
	r.post(changePath, zip(t, strings.Repeat(" ", 20<<20)), "Content-Encoding", "gzip").refused(wire.CodeBodyTooLarge)

	fits := strings.Repeat(" ", wire.MaxBodyBytes-2) + "{}"
	r.post(changePath, zip(t, fits), "Content-Encoding", "gzip").is(200)
	r.post(changePath, fits+" ").refused(wire.CodeBodyTooLarge)
	r.post(changePath, zip(t, fits+" "), "Content-Encoding", "gzip").refused(wire.CodeBodyTooLarge)
	r.post(changePath, "not gzip", "Content-Encoding", "gzip").refused(wire.CodeMalformedJSON)
	r.post(changePath, zip(t, `{}`)[:10], "Content-Encoding", "gzip").refused(wire.CodeMalformedJSON)
}

// TestTooLargeIsHeardByBluntClients, which look for an answer only when they
// have sent everything.
func TestTooLargeIsHeardByBluntClients(t *testing.T) {
	r := newRig(t).withFleet()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	body := bytes.Repeat([]byte(" "), 20<<20)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", changePath, len(body))
	if _, err := conn.Write(append([]byte(head), body...)); err != nil {
		t.Fatalf("cut off while sending: %v", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// TestSlowBody: who does not send the body within the limit is told so, and
// waits for nobody.
func TestSlowBody(t *testing.T) {
	r := newRig(t, func(_ *rig, c *api.Config, _ *api.Deps) { c.RequestLimit = 150 * time.Millisecond }).withFleet()
	slow, sender := io.Pipe()
	defer func() { _ = sender.CloseWithError(errors.New("test is over")) }()
	go func() { _, _ = sender.Write([]byte(`{"mess`)) }()
	start := time.Now()
	r.sendReader(http.MethodPost, changePath, slow).refused(wire.CodeRequestTimeout)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

// TestAnswersAreCompressed for who asks, and long enough to be worth it.
func TestAnswersAreCompressed(t *testing.T) {
	r := newRig(t).withFleet()
	r.change(cluster("web", `,"x":"`+strings.Repeat("x", 5000)+`"`))
	path := fleetPath + "/resources"
	got := r.get(path, "Accept-Encoding", "gzip").is(200)
	if got.header.Get("Content-Encoding") != "gzip" || len(got.raw) > 2000 {
		t.Errorf("%d bytes, Content-Encoding %q", len(got.raw), got.header.Get("Content-Encoding"))
	}
	got = r.get(path, "Accept-Encoding", "identity").is(200)
	if got.header.Get("Content-Encoding") != "" || len(got.raw) < 5000 {
		t.Errorf("%d bytes, Content-Encoding %q", len(got.raw), got.header.Get("Content-Encoding"))
	}
}

func TestQueryIsStrict(t *testing.T) {
	r := newRig(t).withFleet()
	r.post(changePath+"?dryrun=true", `{}`).refused(wire.CodeInvalidParameter, "query.dryrun")
	r.post(changePath+"?dry_run=yes", `{}`).refused(wire.CodeInvalidParameter, "query.dry_run")
	r.post(changePath+"?dry_run=true&dry_run=false", `{}`).refused(wire.CodeInvalidParameter, "query.dry_run")
	r.delete(fleetPath+"?force=1").refused(wire.CodeInvalidParameter, "query.force")
	r.get(fleetPath+"?consistency=weak").refused(wire.CodeInvalidParameter, "query.consistency")
	r.get(fleetPath+"?min_index=x").refused(wire.CodeInvalidParameter, "query.min_index")
	r.get(fleetPath + "?a=%zz").refused(wire.CodeInvalidParameter)
	r.get("/health?x=1").refused(wire.CodeInvalidParameter, "query.x")
}

func TestRequestID(t *testing.T) {
	r := newRig(t)
	if got := r.get("/health", wire.HeaderRequestID, "abc-1").header.Get(wire.HeaderRequestID); got != "abc-1" {
		t.Errorf("not echoed: %q", got)
	}
	one, two := r.get("/health").header.Get(wire.HeaderRequestID), r.get("/health").header.Get(wire.HeaderRequestID)
	if one == "" || one == two {
		t.Errorf("made up: %q, %q", one, two)
	}
	if got := r.get("/health", wire.HeaderRequestID, strings.Repeat("x", 129)).header.Get(wire.HeaderRequestID); len(got) > 128 {
		t.Errorf("a long one is taken over")
	}
	p := r.get("/nope", wire.HeaderRequestID, "abc-2").refused(wire.CodeUnknownPath)
	if p.RequestID != "abc-2" || p.Type != "urn:ecp:problem:unknown_path" || p.Title != "Unknown path" {
		t.Errorf("problem: %+v", p)
	}
}
