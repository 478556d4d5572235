package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

const (
	bareRows  = 100_000
	bareBytes = 8 << 20 // fetched ahead
)

// block is the columns of one insert.
type block struct {
	rows                                                            int
	tenant, source, typ, account, meter, unit, region, consumerType *proto.ColLowCardinality[string]
	id, consumerID                                                  proto.ColStr
	at                                                              proto.ColDateTime64
	quantity                                                        proto.ColDecimal128
	input                                                           proto.Input
}

// decimal gives the column the type that the table has.
type decimal struct{ *proto.ColDecimal128 }

func (decimal) Type() proto.ColumnType { return "Decimal(38, 9)" }

func newBlock() *block {
	b := &block{}
	for _, c := range []**proto.ColLowCardinality[string]{
		&b.tenant, &b.source, &b.typ, &b.account, &b.meter, &b.unit, &b.region, &b.consumerType,
	} {
		*c = new(proto.ColStr).LowCardinality()
	}
	b.at.WithPrecision(proto.PrecisionMilli).WithLocation(time.UTC)
	b.input = proto.Input{
		{Name: "tenant", Data: b.tenant}, {Name: "source", Data: b.source}, {Name: "id", Data: &b.id}, {Name: "type", Data: b.typ},
		{Name: "account", Data: b.account}, {Name: "at", Data: &b.at}, {Name: "meter", Data: b.meter}, {Name: "quantity", Data: decimal{&b.quantity}},
		{Name: "unit", Data: b.unit}, {Name: "region", Data: b.region}, {Name: "consumer_type", Data: b.consumerType}, {Name: "consumer_id", Data: &b.consumerID},
	}
	return b
}

func (b *block) reset() {
	b.rows = 0
	b.input.Reset()
}

// bare decodes one block while the one before is inserted.
func bare(ctx context.Context, c Config) error {
	nc, stream, err := connect(ctx, c)
	if err != nil {
		return err
	}
	defer nc.Close()
	client, err := ch.Dial(ctx, ch.Options{Address: c.ClickHouse, Compression: ch.CompressionLZ4})
	if err != nil {
		return fmt.Errorf("connect to clickhouse: %w", err)
	}
	defer func() { _ = client.Close() }() // every block has been answered
	full, free := make(chan *block), make(chan *block, 2)
	free <- newBlock()
	free <- newBlock()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(full)
		return gather(ctx, stream, c, full, free)
	})
	g.Go(func() error {
		for b := range full {
			q := ch.Query{
				Body: "INSERT INTO " + c.Table + " (" + columns + ") VALUES", Input: b.input,
				Settings: []ch.Setting{{Key: "async_insert", Value: "0"}},
			}
			if err := client.Do(ctx, q); err != nil {
				return fmt.Errorf("insert: %w", err)
			}
			b.reset()
			free <- b
		}
		return nil
	})
	return g.Wait()
}

func gather(ctx context.Context, stream jetstream.Stream, c Config, full chan<- *block, free <-chan *block) error {
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: c.From,
	})
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxBytes(bareBytes))
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	defer messages.Stop()
	b := <-free
	d := decoder{tokens: jsontext.NewDecoder(&bytes.Buffer{})}
	for read := range c.Messages {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if err := d.batch(b, tenantOf(m.Subject()), m.Data()); err != nil {
			return err
		}
		if b.rows < bareRows && read < c.Messages-1 {
			continue
		}
		select {
		case full <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case b = <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// decoder reads CloudEvents token by token. It knows the members it wants, at any depth they stand.
type decoder struct {
	tokens *jsontext.Decoder
}

var errShape = errors.New("not an array of CloudEvents")

func (d *decoder) batch(b *block, tenant string, data []byte) error {
	d.tokens.Reset(bytes.NewBuffer(data)) // which it reads in place
	if t, err := d.tokens.ReadToken(); err != nil || t.Kind() != '[' {
		return fmt.Errorf("%w: %w", errShape, err)
	}
	for d.tokens.PeekKind() == '{' {
		if err := d.event(b); err != nil {
			return err
		}
		b.tenant.Append(tenant)
		b.rows++
	}
	return nil
}

// row is what the members of an event are kept in until its end: any of them may be absent.
type row struct {
	id, source, typ, account, meter, unit, region, consumerType, consumerID string
	at                                                                      time.Time
	quantity                                                                int64 // billionths
}

func (d *decoder) event(b *block) error {
	var r row
	if err := d.object(&r, ""); err != nil {
		return err
	}
	b.id.Append(r.id)
	b.source.Append(r.source)
	b.typ.Append(r.typ)
	b.account.Append(r.account)
	b.at.Append(r.at)
	b.meter.Append(r.meter)
	b.quantity.Append(proto.Decimal128{Low: uint64(r.quantity), High: uint64(r.quantity >> 63)})
	b.unit.Append(r.unit)
	b.region.Append(r.region)
	b.consumerType.Append(r.consumerType)
	b.consumerID.Append(r.consumerID)
	return nil
}

// object reads one object; within is the member it is the value of.
func (d *decoder) object(r *row, within string) error {
	if t, err := d.tokens.ReadToken(); err != nil || t.Kind() != '{' {
		return fmt.Errorf("%w: %w", errShape, err)
	}
	for d.tokens.PeekKind() == '"' {
		name, err := d.tokens.ReadToken()
		if err != nil {
			return fmt.Errorf("decode: %w", err)
		}
		if err := d.member(r, within, name.String()); err != nil {
			return err
		}
	}
	_, err := d.tokens.ReadToken()
	return err
}

func (d *decoder) member(r *row, within, name string) error {
	if kind := d.tokens.PeekKind(); kind == '{' {
		return d.object(r, name)
	} else if kind != '"' {
		return d.tokens.SkipValue()
	}
	t, err := d.tokens.ReadToken()
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	switch within + "." + name {
	case ".id":
		r.id = t.String()
	case ".source":
		r.source = t.String()
	case ".type":
		r.typ = t.String()
	case ".subject":
		r.account = t.String()
	case ".time":
		if r.at, err = time.Parse(time.RFC3339Nano, t.String()); err != nil {
			return fmt.Errorf("decode: %w", err)
		}
	case "data.meter":
		r.meter = t.String()
	case "data.unit":
		r.unit = t.String()
	case "data.region":
		r.region = t.String()
	case "consumer.type":
		r.consumerType = t.String()
	case "consumer.id":
		r.consumerID = t.String()
	case "data.quantity":
		r.quantity, err = billionths(t.String())
	}
	return err
}

func billionths(s string) (int64, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole+(fraction + "000000000")[:9], 10, 64)
	if err != nil || len(fraction) > 9 {
		return 0, fmt.Errorf("decode quantity %q: %w", s, err)
	}
	return n, nil
}
