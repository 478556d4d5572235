package peers_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/bench/peers"
	"github.com/countinghouse/countinghouse/internal/localstack"
)

func TestMain(m *testing.M) { localstack.Main(m) }

const (
	messages = 230 // more than two batches of the usual loop
	events   = 100
)

// batch is what a producer sends; the loops must leave out what they do not know.
func batch(message int) []byte {
	var b strings.Builder
	for i := range events {
		fmt.Fprintf(&b, `%c{"specversion":"1.0","id":"%d-%d","source":"/gateways/%d","type":"usage.metered","subject":"account-%d","time":"2026-0%d-01T10:00:%02d.%03dZ",`+
			`"data":{"meter":"tokens","quantity":"%d.%d","unit":"unit","region":"eu-west","tags":[{"id":"no"}],"consumer":{"type":"device","id":"device-%d"}}}`,
			"[,"[min(i, 1)], message, i, i%4, i%7, 1+message%9, i%60, message, message*i, i%10, message%13)
	}
	return []byte(b.String() + "]")
}

// Both loops insert every event once, with the same values.
func TestLoopsAgree(t *testing.T) {
	t.Parallel()
	servers := localstack.Shared(t)
	database := servers.Database(t)
	nc, err := nats.Connect(servers.NATSURL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	const stream = "BACKLOG"
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{"usage.log.0.>"}}); err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		if _, err := js.Publish(t.Context(), fmt.Sprintf("usage.log.0.tenant-%d.events", i%3), batch(i)); err != nil {
			t.Fatal(err)
		}
	}
	found := map[string]string{}
	for _, loop := range []string{peers.Bare, peers.Usual} {
		table := database + "." + loop
		if _, err := servers.ClickHouse.Query(t.Context(), peers.Schema(table)); err != nil {
			t.Fatal(err)
		}
		// Not from the first message on: a backlog begins where somebody stopped.
		c := peers.Config{NATS: servers.NATSURL, Stream: stream, From: 2, Messages: messages - 1, ClickHouse: servers.ClickHouseAddr, Table: table}
		if err := peers.Run(t.Context(), loop, c); err != nil {
			t.Fatalf("%s: %v", loop, err)
		}
		found[loop], err = servers.ClickHouse.Query(t.Context(), `SELECT count(), uniqExact(tenant, id), sum(quantity), uniqExact(account), uniqExact(consumer_id), min(at), max(at),
groupBitXor(cityHash64(tenant, source, id, type, account, at, meter, quantity, unit, region, consumer_type, consumer_id)) FROM `+table)
		if err != nil {
			t.Fatal(err)
		}
	}
	if found[peers.Bare] != found[peers.Usual] {
		t.Errorf("bare:  %s\nusual: %s", found[peers.Bare], found[peers.Usual])
	}
	if want := fmt.Sprintf("%d\t%d\t", (messages-1)*events, (messages-1)*events); !strings.HasPrefix(found[peers.Bare], want) {
		t.Errorf("bare: %s, want %s…", found[peers.Bare], want)
	}
	left, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	for info := range left.ListConsumers(t.Context()).Info() {
		if info.Config.AckPolicy == jetstream.AckExplicitPolicy && info.NumAckPending != 0 {
			t.Errorf("%d messages are not acknowledged", info.NumAckPending)
		}
	}
}
