package abuse_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	// The time-outs of the services in this test: short, so that it is.
	headerWait = 2 * time.Second
	bodyWait   = 3 * time.Second
	idleWait   = 2 * time.Second
	readWait   = 2 * time.Second

	trickle = time.Second // between two bytes
	// own are descriptors of a service that nobody's connection is: listeners, NATS, the keep-alive connections
	// of the load, files.
	own = 100
)

// drip is one connection that sends a byte a second.
type drip struct {
	net.Conn
	left  []byte
	said  string // what the server answered before it closed
	ended time.Duration
}

// F21: thousands of connections that send a byte a second are closed at the time-outs, hold no more than a
// descriptor until then, and harm nobody.
func TestF21Slowloris(t *testing.T) {
	f := fight.Begin(t, "F21", rig.Options{IngestFlags: []string{
		"--http-header-wait", headerWait.String(), "--http-body-wait", bodyWait.String(), "--http-idle-wait", idleWait.String(),
	}})
	s := newSender(f, "slow", "/slow")
	count := fight.Rounds(600, 5000)
	quiet, before := f.Normal(), cost(f, f.Rig.Ingest)
	drips := dial(f, server(f), count, func(i int) []byte { return slowRequest(i, s.token) })
	_ = f.Load.Latencies()
	peak, worst := drain(f, drips, f.Rig.Ingest)
	f.Unaffected(quiet, f.Load.Latencies(), 200)
	limit := filesMax(f, f.Rig.Ingest)
	if peak > count+own || peak >= limit {
		t.Errorf("%s seed=%d: ingest had %d descriptors open for %d connections; its limit is %d", f.Name, f.Seed, peak, count, limit)
	}
	f.Within("the last connection", worst, bodyWait)
	f.Rig.Until("ingest has closed them", rig.SettleWait, func(context.Context) bool { return cost(f, f.Rig.Ingest).Files <= before.Files+own })
	answered(f, drips)
	f.Note += fmt.Sprintf(" connections=%d files=%d limit=%d closed-within=%s memory=+%dMiB", count, peak, limit, worst.Round(time.Millisecond), grown(f, f.Rig.Ingest, before))
	f.End()
}

// slowRequest is what connection i sends: a header without an end, a body without one, or a whole request and
// then nothing.
func slowRequest(i int, token string) []byte {
	head := "POST /api/v1/events HTTP/1.1\r\nHost: x\r\n"
	switch i % 3 {
	case 0:
		return []byte(head + "X-Slow: " + strings.Repeat("y", 1000))
	case 1:
		return []byte(head + "Content-Type: application/json\r\nContent-Length: 1000\r\nAuthorization: Bearer " + token + "\r\n\r\n" + strings.Repeat(" ", 500))
	}
	return []byte("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
}

// dial opens connections. Those with a body send their header at once, and those with a whole request all.
func dial(f *fight.Fight, address string, count int, request func(i int) []byte) []*drip {
	f.T.Helper()
	drips := make([]*drip, count)
	for i := range drips {
		conn, err := (&net.Dialer{}).DialContext(f.T.Context(), "tcp", address)
		if err != nil {
			f.T.Fatalf("%s seed=%d: connection %d: %v", f.Name, f.Seed, i, err)
		}
		f.T.Cleanup(func() { _ = conn.Close() })
		drips[i] = &drip{Conn: conn, left: request(i)}
		if at := bytes.Index(drips[i].left, []byte("\r\n\r\n")); at >= 0 {
			if _, err := conn.Write(drips[i].left[:at+4]); err != nil {
				f.T.Fatalf("%s seed=%d: connection %d: %v", f.Name, f.Seed, i, err)
			}
			drips[i].left = drips[i].left[at+4:]
		}
	}
	return drips
}

// drain sends a byte on each connection a second until the server has closed all, and answers the most
// descriptors that it had open and how long the last connection lived.
func drain(f *fight.Fight, drips []*drip, part *rig.Part) (files int, worst time.Duration) {
	f.T.Helper()
	begun := time.Now()
	var reading sync.WaitGroup
	for _, d := range drips {
		reading.Go(func() {
			_ = d.SetReadDeadline(begun.Add(answerWait)) // it is open
			said, _ := io.ReadAll(d)                     // an error ends it as well
			d.said, d.ended = string(said), time.Since(begun)
		})
	}
	ended := make(chan struct{})
	go func() { defer close(ended); reading.Wait() }()
	tick := time.NewTicker(trickle)
	defer tick.Stop()
	for {
		files = max(files, cost(f, part).Files)
		select {
		case <-ended:
			for _, d := range drips {
				worst = max(worst, d.ended)
			}
			return files, worst
		case <-tick.C:
		}
		for _, d := range drips {
			if len(d.left) > 0 {
				_, _ = d.Write(d.left[:1]) // closed already
				d.left = d.left[1:]
			}
		}
	}
}

// answered checks that a slow body was told why; a header that never ended is closed without a word, and so is one that
// came in time but was read too late, by a process that stood still.
func answered(f *fight.Fight, drips []*drip) {
	f.T.Helper()
	told, silent := 0, 0
	for i, d := range drips {
		switch {
		case i%3 != 1:
		case d.said == "":
			silent++
		case strings.HasPrefix(d.said, "HTTP/1.1 408 "), strings.HasPrefix(d.said, "HTTP/1.1 503 "):
			told++
		default:
			f.T.Errorf("%s seed=%d: connection %d with a slow body was told %.100q", f.Name, f.Seed, i, d.said)
			return
		}
	}
	if told <= silent {
		f.T.Errorf("%s seed=%d: of the connections with a slow body %d were told why, and %d nothing", f.Name, f.Seed, told, silent)
	}
}

// filesMax is how many descriptors the kernel gives a part.
func filesMax(f *fight.Fight, p *rig.Part) int {
	f.T.Helper()
	most, err := p.FilesMax()
	if err != nil {
		f.T.Fatalf("%s seed=%d: %v", f.Name, f.Seed, err)
	}
	return most
}

// F21, the other side: readers that take a report at 1 KB/s.
func TestF21SlowReaders(t *testing.T) {
	f := fight.Begin(t, "F21r", rig.Options{})
	const places = 4
	reporter, at := f.Rig.StartReporter("--http-header-wait", headerWait.String(), "--http-idle-wait", idleWait.String(), "--http-read-wait", readWait.String(),
		"--http-tenant-requests", fmt.Sprint(places))
	lazy, brisk := newSender(f, "lazy", "/lazy"), newSender(f, "brisk", "/brisk")
	crowd(f, lazy.tenant, 90_000, 1)
	crowd(f, brisk.tenant, 100, 1)
	whole := lazy.get(t.Context(), asked(at, "group_by", "account"))
	if whole.status != http.StatusOK || len(whole.body) < 8<<20 {
		t.Fatalf("a report of 90,000 rows: %d bytes, %s", len(whole.body), &whole)
	}
	before := cost(f, reporter)
	question := asked("", "group_by", "account")
	readers := dial(f, strings.TrimPrefix(at, "http://"), places, func(int) []byte {
		return []byte("GET " + question + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + lazy.token + "\r\n\r\n")
	})
	ended := sip(readers)
	other := brisk.get(t.Context(), asked(at, "window", "day"))
	if other.status != http.StatusOK {
		t.Errorf("%s seed=%d: another tenant meanwhile: %s", f.Name, f.Seed, &other)
	}
	drips := dial(f, strings.TrimPrefix(at, "http://"), fight.Rounds(200, 2000), func(i int) []byte { return slowRequest(3*i, "") })
	_, worst := drain(f, drips, reporter)
	f.Within("the last slow header", worst, headerWait)
	<-ended
	f.Rig.Until("their places are free", rig.SettleWait, func(ctx context.Context) bool {
		return lazy.get(ctx, asked(at, "window", "day")).status == http.StatusOK
	})
	slowest := time.Duration(0)
	for _, r := range readers {
		slowest = max(slowest, r.ended)
		if len(r.said) >= len(whole.body) {
			t.Errorf("%s seed=%d: a slow reader had its whole report", f.Name, f.Seed)
		}
	}
	f.Note = fmt.Sprintf(" readers=%d headers=%d ended-after=%s others=%s memory=+%dMiB", len(readers), len(drips), slowest.Round(time.Millisecond), other.took.Round(time.Millisecond), grown(f, reporter, before))
	disperse(f)
	f.End()
}

// sip reads 1 KB a second from each connection until the server closes it; what is in the kernel's buffers by
// then is thrown away. The channel is closed when all have ended.
func sip(readers []*drip) <-chan struct{} {
	begun := time.Now()
	var reading sync.WaitGroup
	for _, r := range readers {
		reading.Go(func() {
			var got int
			buffer := make([]byte, 1024)
			tick := time.NewTicker(trickle)
			defer tick.Stop()
			for r.open() && time.Since(begun) < 6*answerWait {
				n, err := r.Read(buffer)
				got += n
				if err != nil {
					break
				}
				<-tick.C
			}
			r.said, r.ended = strings.Repeat(" ", got), time.Since(begun)
		})
	}
	ended := make(chan struct{})
	go func() { defer close(ended); reading.Wait() }()
	return ended
}

// open reports whether the server still has the connection: /proc tells the state of each end.
func (d *drip) open() bool {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return true
	}
	local, ok := d.LocalAddr().(*net.TCPAddr)
	if !ok {
		return true
	}
	remote := fmt.Sprintf("0100007F:%04X", local.Port) // as the server's end sees us
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[2] == remote {
			return fields[3] == "01" // established
		}
	}
	return false
}
