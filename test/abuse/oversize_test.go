package abuse_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/oracle"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	refusedWithin = time.Second
	memoryMax     = 64 // MiB that abuse may add
)

// memorySlack is how many times as much is let pass: a collector that has to wait for a processor lets garbage stand,
// and 80 to 108 MiB were seen of a busy machine. The short form tells only that nothing is unpacked or kept whole: the
// smallest bomb is 330 MB.
func memorySlack() int64 { return int64(fight.Rounds(4, 2)) }

// large is a request that must be refused.
type large struct {
	name   string
	header string // lines, each with CRLF
	body   []byte
	repeat int // the body is sent so many times more, without saying how long it will be
	status int
	code   string
	open   bool // the connection may live: the request was read to its end
}

// F20: whatever is too large is refused with its name, soon, in little memory, while others do not notice.
func TestF20Oversize(t *testing.T) {
	f := fight.Begin(t, "F20", rig.Options{IngestFlags: patient()})
	big := newSender(f, "big", "/big")
	fill(f, big)
	before, quiet := cost(f, f.Rig.Ingest), f.Normal()
	var slowest time.Duration
	requests := larges(big)
	for round := range fight.Rounds(1, 20) {
		for i := range requests {
			took := requests[i].send(f, big)
			slowest = max(slowest, took)
			if round == 0 {
				t.Logf("%s: %d %s after %s", requests[i].name, requests[i].status, requests[i].code, took.Round(time.Millisecond))
			}
		}
	}
	letters := oversizedMessages(f, big)
	f.Unaffected(quiet, f.Load.Latencies(), 200)
	more := grown(f, f.Rig.Ingest, before)
	f.Note += fmt.Sprintf(" refused=%d letters=%d slowest=%s memory=+%dMiB", len(requests), letters, slowest.Round(time.Millisecond), more)
	if more > memoryMax*memorySlack() {
		t.Errorf("%s seed=%d: ingest took %d MiB more, promised at most %d", f.Name, f.Seed, more, memoryMax)
	}
	f.End()
}

// fill brings ingest's memory to where honest requests of the largest kind bring it: the collector waits for
// tens of MiB of garbage, whoever makes it.
func fill(f *fight.Fight, s *sender) {
	f.T.Helper()
	largest := append(append([]byte("["), bytes.Repeat([]byte(" "), 5<<20-1024)...), ']')
	for range 40 {
		if a := s.post(f.T.Context(), largest); a.status != http.StatusAccepted {
			f.T.Fatalf("a body of nearly 5 MiB: %s", &a)
		}
	}
	for range 20 {
		all := s.events(1000)
		for _, e := range all {
			e.Account = strings.Repeat("a", 200)
		}
		if a := s.send(f.T.Context(), oracle.Original, all...); a.status != http.StatusAccepted {
			f.T.Fatalf("a request of 1,000 events: %s", &a)
		}
	}
}

func larges(s *sender) []large {
	const (
		batchType = "Content-Type: application/cloudevents-batch+json\r\n"
		anyType   = "Content-Type: application/json\r\n"
		gz        = batchType + "Content-Encoding: gzip\r\n"
		zstd      = batchType + "Content-Encoding: zstd\r\n"
	)
	bad := func(old, changed string) []byte {
		return []byte("[" + strings.Replace(text(s.event()), old, changed, 1) + "]")
	}
	long := strings.Repeat("x", 70<<10)
	dimensions := make([]string, 65)
	for i := range dimensions {
		dimensions[i] = fmt.Sprintf(`"k%d":"v"`, i)
	}
	return []large{
		{name: "a body of 6 MiB", header: batchType, body: make([]byte, 6<<20), status: 413, code: "body-too-large"},
		{name: "a body without an end", header: batchType, body: bytes.Repeat([]byte(" "), 64<<10), repeat: 1 << 30, status: 413, code: "body-too-large"},
		{name: "gzip, 10 KB to 10 MB", header: gz, body: gzipBomb(10 << 10), status: 413, code: "body-too-large", open: true},
		{name: "gzip, 4.9 MB to 5 GB", header: gz, body: gzipBomb(4900 << 10), status: 413, code: "body-too-large"},
		{name: "zstd, 10 KB to 330 MB", header: zstd, body: zstdBomb(330 << 20), status: 413, code: "body-too-large", open: true},
		{name: "zstd, 328 KB to 10 GB", header: zstd, body: zstdBomb(10 << 30), status: 413, code: "body-too-large"},
		{name: "zstd that promises 1 TB", header: zstd, body: zstdLiar(false), status: 413, code: "body-too-large", open: true},
		{name: "zstd with a window of 2 GB", header: zstd, body: zstdLiar(true), status: 413, code: "body-too-large", open: true},
		{name: "1,001 events", header: batchType, body: batch(s.events(1001)), status: 413, code: "too-many-events", open: true},
		{name: "an event of 70 KB", header: batchType, body: bad(`"meter"`, `"item":"`+long+`","meter"`), status: 422, code: "invalid-events", open: true},
		{name: "65 dimensions", header: batchType, body: bad(`"meter"`, `"dimensions":{`+strings.Join(dimensions, ",")+`},"meter"`), status: 422, code: "invalid-events", open: true},
		{name: "a quantity of 70,000 digits", header: batchType, body: bad(`"quantity":"1"`, `"quantity":"`+strings.Repeat("9", 60<<10)+`"`), status: 422, code: "invalid-events", open: true},
		{name: "depth 10,000", header: anyType, body: bytes.Repeat([]byte("["), 10_000), status: 422, code: "bad-json", open: true},
		{name: "a header of 64 KB", header: "X-Large: " + long + "\r\n", status: 431, code: "headers-too-large"},
		{name: "10,000 headers", header: strings.Repeat("X-Many: y\r\n", 10_000), status: 431, code: "headers-too-large"},
	}
}

// send writes the request byte by byte on a connection of its own, as no library would.
func (l *large) send(f *fight.Fight, s *sender) (took time.Duration) {
	f.T.Helper()
	fault := func(format string, args ...any) {
		f.T.Errorf("%s seed=%d: %s: %s", f.Name, f.Seed, l.name, fmt.Sprintf(format, args...))
	}
	conn, err := (&net.Dialer{}).DialContext(f.T.Context(), "tcp", server(f))
	if err != nil {
		fault("%v", err)
		return 0
	}
	defer conn.Close()
	begun := time.Now()
	_ = conn.SetDeadline(begun.Add(answerWait)) // a connection that was just made takes it
	written := make(chan struct{})
	go func() {
		defer close(written)
		l.write(conn, s)
	}()
	defer func() { <-written }()
	defer conn.Close() // before that: it ends the writing
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		fault("no answer: %v", err)
		return time.Since(begun)
	}
	body, err := io.ReadAll(res.Body)
	took = time.Since(begun)
	_ = res.Body.Close() // read
	if err != nil || res.StatusCode != l.status || codeOf(body) != l.code {
		fault("%s %s, %v; want %d %s", res.Status, body, err, l.status, l.code)
	}
	f.Within(l.name, took, refusedWithin)
	if !l.open && !res.Close {
		fault("the connection is kept")
	}
	return took
}

// write ends at the first error: the server may have had enough.
func (l *large) write(conn net.Conn, s *sender) {
	head := "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + s.token + "\r\n" + l.header
	if l.repeat == 0 {
		_, err := fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n", head, len(l.body))
		if err == nil {
			_, _ = conn.Write(l.body)
		}
		return
	}
	if _, err := fmt.Fprintf(conn, "%sTransfer-Encoding: chunked\r\n\r\n", head); err != nil {
		return
	}
	for range l.repeat {
		if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", len(l.body), l.body); err != nil {
			return
		}
	}
}

// oversizedMessages publishes what is too large past ingest, and answers how many dead letters that made.
func oversizedMessages(f *fight.Fight, s *sender) int {
	f.T.Helper()
	nc, err := nats.Connect(f.Rig.NATSURL())
	if err != nil {
		f.T.Fatal(err)
	}
	defer nc.Close()
	subject := "usage.in." + s.tenant + ".events"
	if err := nc.Publish(subject, make([]byte, nc.MaxPayload()+1)); err == nil {
		f.T.Errorf("%s: a message larger than max_payload was published", f.Name)
	}
	violate(f, subject, int(nc.MaxPayload())+1)
	event := text(s.event())
	messages := [][]byte{
		[]byte(strings.Replace(event, `"meter"`, `"item":"`+strings.Repeat("x", 70<<10)+`","meter"`, 1)), // an event that is too large
		batch(s.events(1001)),                               // too many
		bytes.Repeat([]byte("["), 10_000),                   // too deep
		bytes.Repeat([]byte(" "), int(nc.MaxPayload())-100), // nothing at all
	}
	good := s.events(20)
	messages = append(messages, batch(good)) // the road is still open
	p := publisher(f, nc)
	for i, m := range messages {
		sent := []oracle.Item{{Kind: oracle.Poison}}
		if i == len(messages)-1 {
			sent = items(oracle.Original, good)
		}
		p.publish(subject, m, nil, sent)
	}
	f.Rig.Until("the dead letters are there", rig.SettleWait, func(ctx context.Context) bool {
		n, err := f.Rig.Warehouse().Numbers(ctx, "SELECT countIf(reason IN ('event-too-large', 'undecodable', 'bad-json', 'too-many-events')) FROM "+rig.Database+".dead_letters WHERE tenant = 'big'")
		return err == nil && int(n[0]) == len(messages)-1
	})
	return len(messages) - 1
}

// violate speaks to the server without a library that would stop it.
func violate(f *fight.Fight, subject string, size int) {
	f.T.Helper()
	conn, err := (&net.Dialer{}).DialContext(f.T.Context(), "tcp", strings.TrimPrefix(f.Rig.NATSURL(), "nats://"))
	if err != nil {
		f.T.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerWait))
	if _, err := fmt.Fprintf(conn, "CONNECT {\"verbose\":false}\r\nPUB %s %d\r\n", subject, size); err != nil {
		f.T.Fatal(err)
	}
	answer, err := io.ReadAll(conn) // until the server closes
	if err != nil && !strings.Contains(string(answer), "-ERR") || !strings.Contains(string(answer), "Maximum Payload Violation") {
		f.T.Errorf("%s: a message of %d bytes: %q, %v; want the connection closed", f.Name, size, answer, err)
	}
}
