package api

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"github.com/org/envoy-control-plane/api/wire"
)

// body reads a request's body as JSON, from JSON or YAML. It is nil when the
// request has none.
func (c *call) body() ([]byte, error) {
	isYAML, err := c.mediaType()
	if err != nil {
		return nil, err
	}
	raw, err := c.read()
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil
	}
	if isYAML {
		return fromYAML(raw)
	}
	return raw, checkJSON(raw)
}

// mediaType reports whether the body is YAML; without a word it is JSON.
func (c *call) mediaType() (bool, error) {
	header := c.r.Header.Get("Content-Type")
	if header == "" {
		return false, nil
	}
	media, params, err := mime.ParseMediaType(header)
	charset := params["charset"]
	if err == nil && (charset == "" || strings.EqualFold(charset, "utf-8")) {
		switch media {
		case wire.MediaJSON:
			return false, nil
		case wire.MediaYAML, "application/x-yaml", "text/yaml":
			return true, nil
		}
	}
	return false, refuse(wire.CodeUnsupportedMedia,
		"%q is neither %s nor %s in UTF-8", header, wire.MediaJSON, wire.MediaYAML)
}

// read takes the body off the wire and decompresses it, within the limit and
// until the call's deadline.
func (c *call) read() ([]byte, error) {
	raw, err := c.unpack()
	control := http.NewResponseController(c.w)
	if err == nil {
		// From here on the connection is only read to notice its end.
		_ = control.SetReadDeadline(time.Time{}) // a writer without deadlines has none to lift
		return raw, nil
	}
	if errors.Is(err, errTooLarge) {
		c.discard(control)
		return nil, refuse(wire.CodeBodyTooLarge, "a body has at most %d bytes, decompressed too", wire.MaxBodyBytes)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, refuse(wire.CodeRequestTimeout, "the body did not arrive in time")
	}
	if _, refused := errors.AsType[*wire.Problem](err); refused {
		return nil, err
	}
	return nil, refuse(wire.CodeMalformedJSON, "the body cannot be read: %v", err)
}

func (c *call) unpack() ([]byte, error) {
	if c.r.ContentLength > wire.MaxBodyBytes {
		return nil, errTooLarge
	}
	sent := &capped{from: c.r.Body, left: wire.MaxBodyBytes}
	switch encoding := c.r.Header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity":
		var buf bytes.Buffer
		if c.r.ContentLength > 0 {
			buf.Grow(int(c.r.ContentLength) + bytes.MinRead)
		}
		_, err := buf.ReadFrom(sent)
		return buf.Bytes(), err
	case "gzip":
		zipped, err := gzip.NewReader(sent)
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		raw, err := io.ReadAll(&capped{from: zipped, left: wire.MaxBodyBytes})
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		return raw, nil
	default:
		return nil, refuse(wire.CodeUnsupportedMedia, "the Content-Encoding %q is not gzip", encoding)
	}
}

// discard reads what is left of a body that is too large, up to a bound: many
// clients look for the answer only when they have sent everything. One that
// waits for "100 Continue" is answered at once.
func (c *call) discard(control *http.ResponseController) {
	if c.r.Header.Get("Expect") != "" {
		return
	}
	_ = control.SetReadDeadline(time.Now().Add(maxDiscardTime))
	_, _ = io.CopyN(io.Discard, c.r.Body, maxDiscardBytes) // the answer is the same
}

// Bounds of what is read in vain.
const (
	maxDiscardBytes = 64 << 20
	maxDiscardTime  = 5 * time.Second
)

// errTooLarge says that a body goes beyond the limit.
var errTooLarge = errors.New("the body is too large")

// capped reads up to a number of bytes and fails when there are more.
type capped struct {
	from io.Reader
	left int64
}

func (r *capped) Read(p []byte) (int, error) {
	if int64(len(p)) > r.left+1 {
		p = p[:r.left+1]
	}
	n, err := r.from.Read(p)
	if int64(n) > r.left {
		return int(r.left), errTooLarge
	}
	r.left -= int64(n)
	return n, err
}

// checkJSON says where a text stops being JSON.
func checkJSON(raw []byte) error {
	if !utf8.Valid(raw) {
		return refuse(wire.CodeMalformedJSON, "the body is not UTF-8")
	}
	if json.Valid(raw) {
		return nil
	}
	var discard json.RawMessage
	err := json.Unmarshal(raw, &discard)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line, column := position(raw, syntax.Offset)
		return refuse(wire.CodeMalformedJSON, "line %d, column %d: %v", line, column, err)
	}
	return refuse(wire.CodeMalformedJSON, "%v", err)
}

// position turns an offset into a line and a column, both from 1.
func position(raw []byte, offset int64) (line, column int) {
	before := raw[:min(max(offset-1, 0), int64(len(raw)))]
	return bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

// fromYAML converts one YAML document; a key given twice, and a second
// document, are mistakes.
func fromYAML(raw []byte) ([]byte, error) {
	if !utf8.Valid(raw) {
		return nil, refuse(wire.CodeMalformedYAML, "the body is not UTF-8")
	}
	if severalDocuments(raw) {
		return nil, refuse(wire.CodeMalformedYAML, "the body has more than one document")
	}
	out, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		return nil, refuse(wire.CodeMalformedYAML, "%v", err)
	}
	if len(out) > wire.MaxBodyBytes {
		return nil, refuse(wire.CodeBodyTooLarge, "the body has more than %d bytes as JSON", wire.MaxBodyBytes)
	}
	if string(out) == "null" {
		return nil, nil
	}
	return out, nil
}

// severalDocuments reports a document marker after the first content. At the
// start of a line it is one even inside a block of text.
func severalDocuments(raw []byte) bool {
	content := false
	for line := range bytes.Lines(raw) {
		line = bytes.TrimRight(line, " \t\r\n")
		marker := bytes.Equal(line, []byte("---")) || bytes.HasPrefix(line, []byte("--- "))
		switch {
		case marker && content:
			return true
		case marker:
			content = len(line) > len("---")
		case len(line) > 0 && line[0] != '#' && line[0] != '%':
			content = true
		}
	}
	return false
}

// canonical returns JSON in one spelling, for hashing.
func canonical(raw []byte) ([]byte, error) {
	if raw == nil {
		return nil, nil
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("read JSON again: %w", err)
	}
	out, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("write JSON again: %w", err)
	}
	return out, nil
}
