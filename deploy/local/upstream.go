package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Echo is what an upstream answers with.
type Echo struct {
	Upstream string              `json:"upstream"`
	Method   string              `json:"method"`
	Host     string              `json:"host"`
	Path     string              `json:"path"`
	Headers  map[string][]string `json:"headers"`
}

// UpstreamHandler answers every request with its name and what it was sent.
func UpstreamHandler(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Upstream", name)
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(Echo{ // fails only when the client has gone
			Upstream: name, Method: r.Method, Host: r.Host, Path: r.URL.RequestURI(), Headers: r.Header,
		})
	})
}

// Upstream is a running HTTP server.
type Upstream struct {
	// Addr is its host and port.
	Addr   string
	server *http.Server
	done   chan error
}

// StartUpstream serves a handler on a loopback address, "127.0.0.1:0" for a
// free port.
func StartUpstream(addr string, handler http.Handler) (*Upstream, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start upstream: %w", err)
	}
	u := &Upstream{
		Addr:   listener.Addr().String(),
		server: &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second},
		done:   make(chan error, 1),
	}
	go func() { u.done <- u.server.Serve(listener) }()
	return u, nil
}

// Stop lets open requests end, and closes what is open when ctx ends.
func (u *Upstream) Stop(ctx context.Context) error {
	err := u.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, u.server.Close())
	}
	if served := <-u.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
