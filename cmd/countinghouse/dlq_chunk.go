package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// unpacked is the event of a dead letter as JSON. What ingest packed is kept as the whole chunk, by the first
// of a chunk's dead letters.
func unpacked(ctx context.Context, c *client.Client, d *deadLetter) ([]byte, error) {
	raw := d.Raw
	if len(raw) == 0 {
		var err error
		if raw, err = packedWith(ctx, c, d); err != nil {
			return nil, err
		}
	}
	if json.Valid(raw) {
		return raw, nil
	}
	var chunk eventlog.Chunk
	err := eventlog.DecodeChunk(raw, &chunk)
	var partial *eventlog.PartialError
	switch {
	case err != nil && !errors.As(err, &partial), d.Idx >= len(chunk.Events):
		return nil, errors.New("the dead letter is no JSON event and cannot be sent through ingest; see it with `dlq show`")
	case partial != nil:
		for _, f := range partial.Faults {
			if f.Event == d.Idx {
				return nil, fmt.Errorf("this version cannot read it either: %w", f)
			}
		}
	}
	e := &chunk.Events[d.Idx]
	// Only what the producer sent: with what ingest filled in, its own retry would be a conflict.
	if e.Filled&usage.FilledCausation != 0 {
		e.CausationID = ""
	}
	if e.Filled&usage.FilledCorrelation != 0 {
		e.CorrelationID = ""
	}
	return usage.AppendJSON(nil, e), nil
}

// packedWith finds the bytes of d with another dead letter of its message.
func packedWith(ctx context.Context, c *client.Client, d *deadLetter) ([]byte, error) {
	query := url.Values{"from": {d.RecordedAt}, "raw": {"true"}, "limit": {fmt.Sprint(pageMax)}}
	for {
		var page struct {
			Rows []deadLetter `json:"rows"`
			Next string       `json:"next"`
		}
		if err := c.Get(ctx, "/dead-letters", query, &page); err != nil {
			return nil, err
		}
		for i := range page.Rows {
			if o := &page.Rows[i]; o.Shard == d.Shard && o.Seq == d.Seq && len(o.Raw) > 0 {
				return o.Raw, nil
			}
		}
		if page.Next == "" {
			return nil, errors.New("its bytes are with no dead letter of its message")
		}
		query.Set("cursor", page.Next)
	}
}
