package faults

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"
)

// moment is a point of the archive writer's work, told by what it and Postgres
// say to each other.
type moment string

const (
	atClaim        moment = "the claim of the cursor"
	atCursor       moment = "the move of the cursor"
	atRows         moment = "the first COPY"
	atCopied       moment = "the end of the first COPY"
	atCommit       moment = "COMMIT"
	atCommitted    moment = "the answer to COMMIT"
	atAcknowledged moment = "what follows the acknowledgement"
)

// moments are all of them, in order.
func moments() []moment {
	return []moment{atClaim, atCursor, atRows, atCopied, atCommit, atCommitted, atAcknowledged}
}

// message of Postgres' protocol, version 3.
type message struct {
	kind byte // 0: the first one of a client
	body []byte
	raw  []byte // all of it
}

// maxMessage is more than anybody sends here.
const maxMessage = 64 << 20

func readMessage(r *bufio.Reader, first bool) (message, error) {
	head := 5
	if first {
		head = 4
	}
	start := make([]byte, head)
	if _, err := io.ReadFull(r, start); err != nil {
		return message{}, err
	}
	size := binary.BigEndian.Uint32(start[head-4:]) // with itself
	if size < 4 || size > maxMessage {
		return message{}, fmt.Errorf("a message of %d bytes", size)
	}
	raw := make([]byte, head+int(size)-4)
	copy(raw, start)
	if _, err := io.ReadFull(r, raw[head:]); err != nil {
		return message{}, err
	}
	m := message{body: raw[head:], raw: raw}
	if !first {
		m.kind = raw[0]
	}
	return m, nil
}

// work follows what one connection does.
type work struct {
	mu         sync.Mutex
	statements map[string]string // SQL of what is prepared, by name
	// moved: the cursor has moved in this transaction; copying: its first COPY
	// is under way.
	moved, copying        bool
	committing, committed bool
}

// sent tells what a client's message begins.
func (w *work) sent(m message) moment {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch m.kind {
	case 'Q':
		return w.runs(text(m.body, 0))
	case 'P':
		w.statements[text(m.body, 0)] = text(m.body, 1)
		return w.runs("")
	case 'B':
		return w.runs(w.statements[text(m.body, 1)])
	case 'c':
		if w.copying {
			w.copying = false
			return atCopied
		}
	}
	return ""
}

func (w *work) runs(sql string) moment {
	switch {
	case w.committed:
		w.committed = false
		return atAcknowledged
	case strings.HasPrefix(sql, "UPDATE archive_cursor SET term"):
		return atClaim
	case strings.HasPrefix(sql, "UPDATE archive_cursor SET seq"):
		w.moved, w.copying = true, false
		return atCursor
	case strings.HasPrefix(sql, "copy") && w.moved && !w.copying:
		w.copying = true
		return atRows
	case sql == "commit" && w.moved:
		w.moved, w.committing = false, true
		return atCommit
	}
	return ""
}

// answered tells what an answer of Postgres says.
func (w *work) answered(m message) moment {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.kind == 'C' && w.committing && text(m.body, 0) == "COMMIT" {
		w.committing, w.committed = false, true
		return atCommitted
	}
	return ""
}

// text is the nth of the strings that a message begins with.
func text(body []byte, n int) string {
	parts := bytes.SplitN(body, []byte{0}, n+2)
	if len(parts) < n+2 {
		return ""
	}
	return string(parts[n])
}
