package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// publisher puts messages into the log, past ingest, in the order they are given: one connection, which is
// not made again when it breaks, so what is in the log is always a prefix of what was given.
type publisher struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	failed atomic.Pointer[error]
}

const (
	publishWindow = 256 // messages without their PubAck
	publishWait   = time.Minute
)

func newPublisher(url string) (*publisher, error) {
	p := &publisher{}
	var err error
	if p.nc, err = nats.Connect(url, nats.Name("countinghouse-bench-fill"), nats.NoReconnect()); err != nil {
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	p.js, err = jetstream.New(p.nc, jetstream.WithPublishAsyncMaxPending(publishWindow), jetstream.WithPublishAsyncTimeout(publishWait),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) {
			err = fmt.Errorf("publish to %s: %w", m.Subject, err)
			p.failed.CompareAndSwap(nil, &err)
		}))
	if err != nil {
		p.nc.Close()
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	return p, nil
}

func (p *publisher) close() { p.nc.Close() }

// send waits for room and hands a message over. It keeps data.
func (p *publisher) send(tenant, kind, contentType string, data []byte) error {
	if err := p.failed.Load(); err != nil {
		return *err
	}
	m := &nats.Msg{Subject: "usage.in." + tenant + "." + kind, Header: nats.Header{}, Data: data}
	m.Header[jetstream.MsgIDHeader] = []string{uuid.NewString()}
	if contentType != "" {
		m.Header["Content-Type"] = []string{contentType}
	}
	if _, err := p.js.PublishMsgAsync(m, jetstream.WithStallWait(publishWait)); err != nil {
		return fmt.Errorf("publish to %s: %w", m.Subject, err)
	}
	return nil
}

// wait returns when the log has everything on disk.
func (p *publisher) wait(ctx context.Context) error {
	select {
	case <-p.js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := p.failed.Load(); err != nil {
		return *err
	}
	if !p.nc.IsConnected() {
		return errors.New("publish: the connection to nats broke")
	}
	return nil
}

// chunks publishes chunks [from, to) of a sample. before each one is asked whether to go on.
func (p *publisher) chunks(ctx context.Context, s *sample, from, to int64, before func(chunk int64) error) error {
	pack := newPacker(s)
	size := 0
	for i := from; i < to; i++ {
		if err := errors.Join(ctx.Err(), before(i)); err != nil {
			return err
		}
		data, err := pack.encode(make([]byte, 0, size+size/8), i, usage.AtTime(time.Now()))
		if err != nil {
			return err
		}
		size = max(size, len(data))
		if err := p.send(tenantName(s.tenantOf(i)), eventlog.KindChunk, "", data); err != nil {
			return err
		}
	}
	return p.wait(ctx)
}

// batches publishes the same events as CloudEvents JSON, requestEvents a message.
func (p *publisher) batches(ctx context.Context, s *sample, from, to int64) error {
	pack := newPacker(s)
	for i := from; i < to; i++ {
		for j := 0; j < chunkEvents; j += requestEvents {
			if err := ctx.Err(); err != nil {
				return err
			}
			data := pack.json(make([]byte, 0, 330*requestEvents), i, j, j+requestEvents)
			if err := p.send(tenantName(s.tenantOf(i)), eventlog.KindEvents, "application/cloudevents-batch+json", data); err != nil {
				return err
			}
		}
	}
	return p.wait(ctx)
}
