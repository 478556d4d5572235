package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	usualBatch = 10_000
	usualFetch = 100
	fetchWait  = time.Second
	ackWait    = 30 * time.Second
)

// event is a CloudEvent as the usual loop sees it.
type event struct {
	ID      string    `json:"id"`
	Source  string    `json:"source"`
	Type    string    `json:"type"`
	Subject string    `json:"subject"`
	Time    time.Time `json:"time"`
	Data    struct {
		Meter    string `json:"meter"`
		Quantity string `json:"quantity"`
		Unit     string `json:"unit"`
		Region   string `json:"region"`
		Consumer struct {
			Type string `json:"type"`
			ID   string `json:"id"`
		} `json:"consumer"`
	} `json:"data"`
}

// usualLoop is what one batch is gathered in.
type usualLoop struct {
	conn    driver.Conn
	insert  string
	batch   driver.Batch
	pending []jetstream.Msg // in the batch, not acknowledged
}

func usual(ctx context.Context, c Config) error {
	nc, stream, err := connect(ctx, c)
	if err != nil {
		return err
	}
	defer nc.Close()
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: c.From,
	})
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	l := &usualLoop{insert: "INSERT INTO " + c.Table + " (" + columns + ")"}
	l.conn, err = clickhouse.Open(&clickhouse.Options{
		Addr: []string{c.ClickHouse}, Compression: &clickhouse.Compression{Method: clickhouse.CompressionLZ4},
		Settings: clickhouse.Settings{"async_insert": 0},
	})
	if err != nil {
		return fmt.Errorf("connect to clickhouse: %w", err)
	}
	defer func() { _ = l.conn.Close() }() // every batch has been answered
	for read := 0; read < c.Messages; {
		fetched, err := consumer.Fetch(min(usualFetch, c.Messages-read), jetstream.FetchMaxWait(fetchWait))
		if err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
		for m := range fetched.Messages() {
			read++
			if err := l.take(ctx, m); err != nil {
				return err
			}
		}
		if err := fetched.Error(); err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
	}
	if err := l.flush(); err != nil {
		return err
	}
	return nc.FlushTimeout(ackWait) // the acks are on their way
}

func (l *usualLoop) take(ctx context.Context, m jetstream.Msg) error {
	var events []event
	if err := json.Unmarshal(m.Data(), &events); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	if l.batch == nil {
		var err error
		if l.batch, err = l.conn.PrepareBatch(ctx, l.insert); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	tenant := tenantOf(m.Subject())
	for i := range events {
		e := &events[i]
		if err := l.batch.Append(tenant, e.Source, e.ID, e.Type, e.Subject, e.Time, e.Data.Meter, e.Data.Quantity, e.Data.Unit,
			e.Data.Region, e.Data.Consumer.Type, e.Data.Consumer.ID); err != nil {
			return fmt.Errorf("append: %w", err)
		}
	}
	l.pending = append(l.pending, m)
	if l.batch.Rows() >= usualBatch {
		return l.flush()
	}
	return nil
}

func (l *usualLoop) flush() error {
	if l.batch == nil {
		return nil
	}
	if err := l.batch.Send(); err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	l.batch = nil
	for _, m := range l.pending {
		if err := m.Ack(); err != nil {
			return fmt.Errorf("ack: %w", err)
		}
	}
	l.pending = l.pending[:0]
	return nil
}
