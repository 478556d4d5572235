package abuse_test

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/oracle"
)

// direct publishes past ingest.
type direct struct {
	f  *fight.Fight
	js jetstream.JetStream
}

const publishWait = time.Minute

func publisher(f *fight.Fight, nc *nats.Conn) *direct {
	f.T.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		f.T.Fatal(err)
	}
	return &direct{f, js}
}

// try publishes, and tells the oracle: a PubAck that is not about an earlier message is a promise.
func (d *direct) try(subject string, data []byte, header nats.Header, items []oracle.Item) (*jetstream.PubAck, error) {
	d.f.Load.Oracle().Sending(items)
	ctx, cancel := context.WithTimeout(d.f.T.Context(), publishWait)
	defer cancel()
	ack, err := d.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data, Header: header})
	if err == nil && !ack.Duplicate {
		d.f.Load.Oracle().Acked(items)
	}
	return ack, err
}

func (d *direct) publish(subject string, data []byte, header nats.Header, items []oracle.Item) *jetstream.PubAck {
	d.f.T.Helper()
	ack, err := d.try(subject, data, header, items)
	if err != nil {
		d.f.T.Fatalf("%s seed=%d: publish %d bytes to %s: %v", d.f.Name, d.f.Seed, len(data), subject, err)
	}
	return ack
}
