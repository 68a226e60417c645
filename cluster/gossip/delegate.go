package gossip

import (
	"bytes"
	"errors"
	"log/slog"

	"github.com/hashicorp/memberlist"
)

var (
	errOtherCluster = errors.New("it belongs to another cluster")
	errStranger     = errors.New("it is not a node of the control plane")
)

// delegate is what memberlist calls.
type delegate Gossip

// NotifyAlive implements memberlist.AliveDelegate.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	m, ok := memberOf(n)
	if !ok {
		return errStranger
	}
	own := d.cfg.Meta()
	if m.Meta.ClusterId != "" && own.ClusterId != "" && m.Meta.ClusterId != own.ClusterId {
		return errOtherCluster
	}
	return nil
}

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) {
	m, ok := memberOf(n)
	d.mu.Lock()
	defer d.mu.Unlock()
	if ok {
		d.alive[n.Name] = m
	} else {
		delete(d.alive, n.Name)
	}
}

// NotifyUpdate implements memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.NotifyJoin(n) }

// NotifyLeave implements memberlist.EventDelegate.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.alive, n.Name)
}

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(limit int) []byte {
	meta := encode(d.cfg.Meta())
	if len(meta) > limit {
		return nil
	}
	return meta
}

// NotifyMsg implements memberlist.Delegate; there are no messages.
func (d *delegate) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (d *delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState([]byte, bool) {}

// logWriter turns memberlist's lines into debug records.
type logWriter struct{ log *slog.Logger }

// Write implements io.Writer.
func (w *logWriter) Write(p []byte) (int, error) {
	w.log.Debug("gossip", "line", string(bytes.TrimSpace(p)))
	return len(p), nil
}
