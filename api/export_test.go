package api

import (
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Routes is the table of routes.
func Routes() []Route { return routes() }

// DecodeChangeSet reads a change set.
func DecodeChangeSet(raw []byte, r Resources) (*fsmpb.ChangeFleet, error) {
	var to fsmpb.ChangeFleet
	if err := checkJSON(raw); err != nil {
		return nil, err
	}
	err := decodeChangeSet(raw, r, &to)
	return &to, err
}

// FromYAML converts a YAML body.
func FromYAML(raw []byte) ([]byte, error) { return fromYAML(raw) }

// EncodeEvent makes an event's JSON.
func EncodeEvent(ev *fsmpb.Event) ([]byte, error) { return encodeEvent(ev) }

// ParseSpot reads a place in a stream, and writes it.
func ParseSpot(text string) (epoch string, number uint64, again string, ok bool) {
	p, ok := parseSpot(text)
	if !ok {
		return "", 0, "", false
	}
	return p.epoch, p.number, p.String(), true
}
