package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// magic opens every connection; its last byte is the version.
const magic = "ECP\x01"

// maxHelloBytes bounds a Hello or Welcome.
const maxHelloBytes = 4096

// helloTimeout bounds the whole exchange.
const helloTimeout = 5 * time.Second

// RefusedError is a connection that the other side would not have.
type RefusedError struct {
	// ServerID and ClusterID of the node that refused.
	ServerID, ClusterID string
	Reason              string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("refused by %s: %s", e.ServerID, e.Reason)
}

var errNotPeer = errors.New("not a node of the control plane")

// sendHello opens a dialled connection. A refusal comes with the Welcome.
func sendHello(conn net.Conn, h *clusterpb.Hello) (*clusterpb.Welcome, error) {
	deadline := time.Now().Add(helloTimeout)
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, magic); err != nil {
		return nil, err
	}
	if err := writeMessage(conn, h); err != nil {
		return nil, err
	}
	welcome := &clusterpb.Welcome{}
	if err := readMessage(conn, welcome); err != nil {
		return nil, err
	}
	if welcome.Refusal != "" {
		return welcome, &RefusedError{ServerID: welcome.ServerId, ClusterID: welcome.ClusterId, Reason: welcome.Refusal}
	}
	return welcome, conn.SetDeadline(time.Time{})
}

// receiveHello reads what an accepted connection opens with.
func receiveHello(conn net.Conn) (*clusterpb.Hello, error) {
	if err := conn.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, err
	}
	got := make([]byte, len(magic))
	if _, err := io.ReadFull(conn, got); err != nil {
		return nil, err
	}
	if string(got) != magic {
		return nil, errNotPeer
	}
	h := &clusterpb.Hello{}
	return h, readMessage(conn, h)
}

func writeMessage(w io.Writer, m proto.Message) error {
	body, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	if len(body) > maxHelloBytes {
		return fmt.Errorf("a greeting of %d bytes", len(body))
	}
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(body)), uint16(len(body)))
	_, err = w.Write(append(frame, body...))
	return err
}

// readMessage reads exactly one message: what follows belongs to Raft or RPC.
func readMessage(r io.Reader, m proto.Message) error {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > maxHelloBytes {
		return fmt.Errorf("a greeting of %d bytes", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	return proto.Unmarshal(body, m)
}
