package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

const (
	// A follower that hears nothing for two heartbeats starts again: with the 4 s in which a dead connection
	// is noticed this bounds how long a revoked key lives.
	heartbeat    = time.Second
	pullExpiry   = 5 * time.Second
	consumerIdle = 30 * time.Second
	retryFirst   = 50 * time.Millisecond
	retryMost    = time.Second
)

// follower is fed the last message of every subject, then each new one. begin starts over: what was known
// before is outdated as soon as synced is called, not earlier.
type follower interface {
	source() (stream, filter string)
	ensure(ctx context.Context, conn *eventlog.Conn) error // makes the stream
	begin()
	apply(subject string, revision uint64, operation string, data []byte)
	synced()
	lost()
}

// follow feeds f until ctx ends. It starts over after every oddity, a reconnect included: the state is
// small, and a stream that was restored from an older copy would otherwise never be noticed.
func follow(ctx context.Context, conn *eventlog.Conn, log *zap.Logger, f follower) {
	wait := retryFirst
	for ctx.Err() == nil {
		reached, err := followOnce(ctx, conn, f)
		f.lost()
		if reached {
			wait = retryFirst
		}
		name, _ := f.source()
		log.Debug("control state not followed; starting over", zap.String("stream", name), zap.Error(err))
		if pause(ctx, wait) != nil {
			return
		}
		wait = min(2*wait, retryMost)
	}
}

// consumer makes a consumer that starts with the last message of every subject.
func consumer(ctx context.Context, conn *eventlog.Conn, f follower) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	name, filter := f.source()
	handle, err := conn.JetStream().Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err = f.ensure(ctx, conn); err == nil {
			handle, err = conn.JetStream().Stream(ctx, name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	if have := handle.CachedInfo().Config; have.Replicas < conn.Replicas() {
		// Made by a program that knew of one server only: the keys would go with that server.
		have.Replicas = conn.Replicas()
		if _, err := conn.JetStream().UpdateStream(ctx, have); err != nil {
			return nil, fmt.Errorf("stream %s: %d replicas: %w", name, conn.Replicas(), err)
		}
	}
	c, err := handle.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubject: filter,
		AckPolicy: jetstream.AckNonePolicy, MaxDeliver: 1, MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerIdle,
	})
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", name, err)
	}
	return c, nil
}

func followOnce(ctx context.Context, conn *eventlog.Conn, f follower) (reached bool, err error) {
	name, _ := f.source()
	consumer, err := consumer(ctx, conn, f)
	if err != nil {
		return false, err
	}
	messages, err := consumer.Messages(jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return false, fmt.Errorf("follow %s: %w", name, err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	defer conn.OnConnect(messages.Stop)()
	f.begin()
	if consumer.CachedInfo().NumPending == 0 {
		reached = true
		f.synced()
	}
	for delivered := uint64(1); ; delivered++ {
		msg, err := messages.Next()
		if err != nil {
			return reached, fmt.Errorf("follow %s: %w", name, err)
		}
		meta, err := msg.Metadata()
		if err != nil || meta.Sequence.Consumer != delivered {
			return reached, fmt.Errorf("follow %s: a delivery was lost", name)
		}
		f.apply(msg.Subject(), meta.Sequence.Stream, msg.Headers().Get("KV-Operation"), msg.Data())
		if meta.NumPending == 0 && !reached {
			reached = true
			f.synced()
		}
	}
}
