package api

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/org/envoy-control-plane/api/feed"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

// tenantEvents streams a tenant's events as server-sent events.
func (s *Server) tenantEvents(c *call) (*answer, error) { return s.serverSent(c, c.param("tenant")) }

// clusterEvents streams the events of the cluster itself.
func (s *Server) clusterEvents(c *call) (*answer, error) { return s.serverSent(c, "") }

// eventSocket streams a tenant's events, or without one the cluster's own, over
// a WebSocket.
func (s *Server) eventSocket(c *call) (*answer, error) {
	tenant, scoped := c.query.Get("tenant"), c.query.Has("tenant")
	need := PermView
	if !scoped {
		need = PermCluster
	} else if detail := checkOwnName(tenant); detail != "" {
		return nil, refuseParameter("tenant", "%s", detail)
	}
	if err := c.subject.may(c.route.Operation, need, tenant, scoped); err != nil {
		return nil, err
	}
	if err := checkUpgrade(c.r); err != nil {
		return nil, err
	}
	st, err := s.subscribe(c, tenant)
	if err != nil {
		return nil, err
	}
	return &answer{takeOver: st.socket}, nil
}

// start is where a stream is to begin: behind a number, behind a log entry, or,
// neither given, behind the newest event.
type start struct {
	spot    *spot // nil: not given
	byIndex bool
}

// spot is a number in an epoch's sequence, of events or of log entries; the
// epoch is "" when the client did not say.
type spot struct {
	epoch  string
	number uint64
}

// parseSpot reads "4711", or "<epoch>/4711" as the ids of server-sent events
// are.
func parseSpot(text string) (*spot, bool) {
	p := &spot{}
	digits := text
	if i := strings.LastIndexByte(text, '/'); i >= 0 {
		if p.epoch, digits = text[:i], text[i+1:]; p.epoch == "" {
			return nil, false
		}
	}
	var err error
	p.number, err = strconv.ParseUint(digits, 10, 63)
	return p, err == nil
}

func (p *spot) String() string {
	number := strconv.FormatUint(p.number, 10)
	if p.epoch == "" {
		return number
	}
	return p.epoch + "/" + number
}

// start reads where a stream is to begin. What a client that reconnects says of
// itself wins over the URL that it began with.
func (c *call) start() (start, error) {
	last := c.r.Header.Get(wire.HeaderLastEventID)
	since, sinceIndex := c.query.Has("since"), c.query.Has("since_index")
	const not = "%q is not a number, or an epoch and a number as in the id of an event"
	switch {
	case since && sinceIndex:
		return start{}, refuseParameter("since_index", "it stands alone, without since")
	case last != "":
		p, ok := parseSpot(last)
		if !ok {
			refusal := refuse(wire.CodeInvalidParameter, "the header %s is not allowed as it is", wire.HeaderLastEventID)
			refusal.Errors = []wire.FieldError{{Path: "header." + wire.HeaderLastEventID, Detail: strconv.Quote(last) + " is no id of an event"}}
			return start{}, refusal
		}
		return start{spot: p}, nil
	case since || sinceIndex:
		name := "since"
		if sinceIndex {
			name = "since_index"
		}
		p, ok := parseSpot(c.query.Get(name))
		if !ok {
			return start{}, refuseParameter(name, not, c.query.Get(name))
		}
		return start{spot: p, byIndex: sinceIndex}, nil
	}
	return start{}, nil
}

// kinds reads the kinds of events that are asked for, nil for all.
func (c *call) kinds() ([]string, error) {
	var kinds []string
	for _, value := range c.query["kind"] {
		for kind := range strings.SplitSeq(value, ",") {
			if !slices.Contains(fsm.EventKinds(), kind) {
				return nil, refuseParameter("kind", "%q is not a kind of event", kind)
			}
			kinds = append(kinds, kind)
		}
	}
	return kinds, nil
}

// subscribe opens a stream of a tenant's events where the request wants it to
// begin. The stream must be run, or closed.
func (s *Server) subscribe(c *call, tenant string) (*stream, error) {
	begin, err := c.start()
	if err != nil {
		return nil, err
	}
	st := &stream{s: s, c: c, tenant: tenant, fleet: c.query.Get("fleet"), follow: true}
	if st.kinds, err = c.kinds(); err != nil {
		return nil, err
	}
	if c.query.Has("follow") {
		if st.follow, err = c.flag("follow"); err != nil {
			return nil, err
		}
	}
	state, err := s.stateAt(c, tenant, begin)
	if err != nil {
		return nil, err
	}
	st.reader, err = s.hub.Open(tenant)
	if errors.Is(err, feed.ErrFull) {
		return nil, refuse(wire.CodeTooManyStreams, "this node has %d event streams, as many as it may", s.cfg.EventStreams)
	}
	if err != nil {
		return nil, err
	}
	st.index, c.index = state.Index(), state.Index()
	if err := st.seek(begin); err != nil {
		st.reader.Close()
		return nil, err
	}
	return st, nil
}

// stateAt returns a state that has what a stream is to begin behind. One that
// lacks it is confirmed: this node may lag behind the one that the client knows.
func (s *Server) stateAt(c *call, tenant string, begin start) (*fsm.State, error) {
	state := s.deps.Cluster.State()
	var err error
	if begin.byIndex {
		if state, err = s.reached(c.ctx, begin.spot.number); err != nil {
			return nil, err
		}
	}
	refusal := lacks(state, tenant, begin)
	if refusal == nil {
		return state, nil
	}
	if state, err = s.confirmed(c.ctx); err != nil {
		return nil, err
	}
	if refusal = lacks(state, tenant, begin); refusal != nil {
		return nil, refusal
	}
	return state, nil
}

// lacks says why a stream cannot begin where it is to by a state, nil when it
// can.
func lacks(state *fsm.State, tenant string, begin start) error {
	if _, ok := state.Tenant(tenant); !ok && tenant != "" {
		return refuse(wire.CodeTenantNotFound, "there is no tenant %q", tenant)
	}
	if begin.spot == nil {
		return nil
	}
	if told, is := begin.spot.epoch, state.Identity().GetEpoch(); told != "" && told != is {
		return refuse(wire.CodeEpochChanged, "%s is of another epoch than the present %s: the cluster was restored; read its state anew", begin.spot, is)
	}
	last := state.Seq()
	if tenant != "" {
		last = state.TenantSeq(tenant)
	}
	if !begin.byIndex && begin.spot.number > last {
		return refuse(wire.CodeEpochChanged, "there is no event %s, the last one is %d: it is of another epoch, or of another tenant", begin.spot, last)
	}
	return nil
}

// checkUpgrade refuses what is no handshake of a WebSocket, and pages of other
// origins: without authentication they would read whatever this host can reach.
func checkUpgrade(r *http.Request) error {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Header.Get("Sec-WebSocket-Version") != "13" {
		return refuse(wire.CodeUpgradeRequired, "this path speaks WebSocket, version 13; server-sent events are at %s/events", tenantPath)
	}
	if origin := r.Header.Get("Origin"); origin != "" && !sameOrigin(origin, r.Host) {
		return refuse(wire.CodeForbidden, "a page of %s may not open a WebSocket to %s", origin, r.Host)
	}
	return nil
}
