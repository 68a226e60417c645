package client

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of Options.
const (
	DefaultTenant   = "default"
	DefaultRetryFor = 15 * time.Second
)

const (
	// Longest time for one attempt at a plain request: with other servers to
	// go to, and without.
	attemptOneOfMany = 12 * time.Second
	attemptOnly      = 35 * time.Second
	dialTimeout      = 3 * time.Second
)

// Options say where the cluster is and as whom to speak to it.
type Options struct {
	// Servers are base URLs of nodes of one cluster, "http://host:8080". One
	// is needed.
	Servers []string
	// Tenant of all calls below a tenant; empty means DefaultTenant.
	Tenant string
	// Token is sent as a bearer token when it is not empty.
	Token string
	// Strong makes every read a strong one: it sees every write that was
	// acknowledged before it, and fails without a quorum.
	Strong bool
	// RetryFor bounds how long after its start a call makes new attempts; 0
	// means DefaultRetryFor.
	RetryFor time.Duration
	// UserAgent names the program.
	UserAgent string
	// Transport sends the requests; nil means a new one of the client's own.
	Transport http.RoundTripper
}

// Client speaks to one cluster on behalf of one tenant.
type Client struct {
	*session
	tenant string
}

// session is what the clients of one cluster share.
type session struct {
	servers   []string
	token     string
	strong    bool
	retryFor  time.Duration
	attempt   time.Duration
	userAgent string
	http      *http.Client

	// current is the place in servers of the one to ask first.
	current atomic.Int64

	mu sync.Mutex
	// index is the highest Ecp-Index seen in epoch, "" while none is known.
	index uint64
	epoch string
}

// New returns a client. It connects to nothing before the first call.
func New(o Options) (*Client, error) {
	s := &session{
		token: o.Token, strong: o.Strong, retryFor: o.RetryFor, attempt: attemptOneOfMany, userAgent: o.UserAgent,
		http: &http.Client{Transport: o.Transport, CheckRedirect: noRedirect},
	}
	for _, server := range o.Servers {
		base, err := baseURL(server)
		if err != nil {
			return nil, err
		}
		s.servers = append(s.servers, base)
	}
	if len(s.servers) == 0 {
		return nil, errors.New("no server is given")
	}
	if len(s.servers) == 1 {
		s.attempt = attemptOnly
	}
	if s.retryFor == 0 {
		s.retryFor = DefaultRetryFor
	}
	if o.Transport == nil {
		s.http.Transport = newTransport()
	}
	return (&Client{session: s}).InTenant(o.Tenant), nil
}

// InTenant returns a client for another tenant that shares everything else
// with c; empty means DefaultTenant.
func (c *Client) InTenant(tenant string) *Client {
	if tenant == "" {
		tenant = DefaultTenant
	}
	return &Client{session: c.session, tenant: tenant}
}

// Tenant returns the tenant that the client speaks for.
func (c *Client) Tenant() string {
	return c.tenant
}

// Index returns the highest log index that any answer has reflected, in the
// present epoch.
func (c *Client) Index() uint64 {
	index, _ := c.seen()
	return index
}

// Close closes idle connections. The client may still be used.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
}

func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     time.Minute,
	}
}

// noRedirect hands a redirect to the caller: the API has none, so whoever
// sends one is not a node.
func noRedirect(*http.Request, []*http.Request) error {
	return http.ErrUseLastResponse
}

// baseURL returns a server's URL without a slash at its end. A host and port
// alone are plain HTTP.
func baseURL(server string) (string, error) {
	server = strings.TrimSpace(server)
	full := server
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	u, err := url.Parse(full)
	if err != nil {
		return "", fmt.Errorf("server %q is not a URL: %w", server, errors.Unwrap(err))
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("server %q: the scheme must be http or https", server)
	case u.Hostname() == "":
		return "", fmt.Errorf("server %q has no host", server)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("server %q: only a scheme, a host, a port and a path are allowed", server)
	}
	return strings.TrimRight(full, "/"), nil
}
