package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	snapshotChunk  = 128 << 10 // bytes; what the server sends at a time
	snapshotWindow = 4 << 20   // bytes under way unacknowledged
	snapshotIdle   = 30 * time.Second
)

// Snapshot is what a stream's copy needs beside its bytes to be restored.
type Snapshot struct {
	Stream string          `json:"stream"`
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// ErrExists: a stream to be restored is there already. Nothing was changed.
var ErrExists = errors.New("stream exists already")

// Streams names every stream of the account, sorted: the log's and those of package control.
func (c *Conn) Streams(ctx context.Context) ([]string, error) {
	var names []string
	list := c.js.StreamNames(ctx)
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("list streams: %w", c.unavailable(err))
	}
	slices.Sort(names)
	return names, nil
}

// SnapshotStream copies a stream to w as the server stores it: sequences, timestamps and headers are
// those of the original, so positions and recorded_at are the same after RestoreStream. Every message is
// checked against its checksum. The stream may be written to meanwhile; the copy is of one moment.
func (c *Conn) SnapshotStream(ctx context.Context, stream string, w io.Writer) (Snapshot, error) {
	snap := Snapshot{Stream: stream}
	inbox := nats.NewInbox()
	chunks, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return snap, fmt.Errorf("snapshot %s: %w", stream, c.unavailable(err))
	}
	defer func() { _ = chunks.Unsubscribe() }() // gone with the connection at the latest
	if err := chunks.SetPendingLimits(-1, 2*snapshotWindow); err != nil {
		return snap, fmt.Errorf("snapshot %s: %w", stream, err)
	}
	request := map[string]any{
		"deliver_subject": inbox, "no_consumers": true, "chunk_size": snapshotChunk, "window_size": snapshotWindow, "jsck": true,
	}
	var answer struct {
		Config, State json.RawMessage
	}
	if err := c.api(ctx, "STREAM.SNAPSHOT."+stream, request, &answer); err != nil {
		return snap, fmt.Errorf("snapshot %s: %w", stream, err)
	}
	snap.Config, snap.State = answer.Config, answer.State
	for {
		msg, err := next(ctx, chunks)
		if err != nil {
			return snap, fmt.Errorf("snapshot %s: %w", stream, c.unavailable(err))
		}
		if len(msg.Data) == 0 {
			if status := msg.Header.Get("Status"); status != "" && status != "204" {
				return snap, fmt.Errorf("snapshot %s: server ended it: %s %s", stream, status, msg.Header.Get("Description"))
			}
			return snap, nil
		}
		if _, err := w.Write(msg.Data); err != nil {
			return snap, fmt.Errorf("snapshot %s: %w", stream, err)
		}
		if msg.Reply != "" {
			if err := msg.Respond(nil); err != nil {
				return snap, fmt.Errorf("snapshot %s: %w", stream, c.unavailable(err))
			}
		}
	}
}

func next(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotIdle)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}

// RestoreStream makes a stream from its copy. A stream of that name must not exist.
func (c *Conn) RestoreStream(ctx context.Context, snap Snapshot, r io.Reader) error {
	var target struct {
		DeliverSubject string `json:"deliver_subject"`
	}
	request := map[string]any{"config": snap.Config, "state": snap.State}
	if err := c.api(ctx, "STREAM.RESTORE."+snap.Stream, request, &target); err != nil {
		return fmt.Errorf("restore %s: %w", snap.Stream, err)
	}
	chunk := make([]byte, snapshotChunk)
	for {
		n, err := io.ReadFull(r, chunk)
		if n > 0 {
			if err := c.deliver(ctx, target.DeliverSubject, chunk[:n]); err != nil {
				return fmt.Errorf("restore %s: %w", snap.Stream, err)
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("restore %s: read the copy: %w", snap.Stream, err)
		}
	}
	if err := c.deliver(ctx, target.DeliverSubject, nil); err != nil {
		return fmt.Errorf("restore %s: %w", snap.Stream, err)
	}
	return nil
}

// deliver sends a piece of a copy and waits until the server has taken it; the empty piece is the last.
func (c *Conn) deliver(ctx context.Context, subject string, piece []byte) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotIdle)
	defer cancel()
	msg, err := c.nc.RequestWithContext(ctx, subject, piece)
	if err != nil {
		return c.unavailable(err)
	}
	return apiAnswer(msg.Data, &struct{}{})
}

// api is one request to the server's JetStream API that nats.go has no call for.
func (c *Conn) api(ctx context.Context, call string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotIdle) // checking every message of a large stream takes time
	defer cancel()
	msg, err := c.nc.RequestWithContext(ctx, "$JS.API."+call, body)
	if err != nil {
		return c.unavailable(err)
	}
	return apiAnswer(msg.Data, answer)
}

func apiAnswer(data []byte, answer any) error {
	if len(data) == 0 {
		return nil
	}
	var head struct {
		Error *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	if e := head.Error; e != nil {
		if strings.Contains(e.Description, "already in use") || strings.Contains(e.Description, "exist") {
			return fmt.Errorf("%w: %s", ErrExists, e.Description)
		}
		return fmt.Errorf("server refused: %s (%d)", e.Description, e.Code)
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}
