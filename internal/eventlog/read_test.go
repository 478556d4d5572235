package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/localstack"
)

func TestReadInOrder(t *testing.T) {
	t.Parallel()
	n := startNATS(t, localstack.NATSConfig{LazySync: true})
	l := dial(t, config(n.URL(), 1), true)
	r := read(t, l, 0, 1)
	for i := range 200 {
		appendText(t, l, "acme", fmt.Sprint(i))
		if i%2 == 0 { // alternately wait for the message and let two pile up
			wantMessage(t, r, r.Position(), fmt.Sprint(r.Position()-1))
		}
	}
	for r.Position() <= 200 {
		wantMessage(t, r, r.Position(), fmt.Sprint(r.Position()-1))
	}
	wantMessage(t, read(t, l, 0, 150), 150, "149")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Next at the end = %v, want the context's error", err)
	}
	appendText(t, l, "acme", "after the deadline")
	wantMessage(t, r, 201, "after the deadline")
	r.Close()
	if _, _, err := r.Next(t.Context()); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("Next after Close = %v", err)
	}
}

func TestReadClose(t *testing.T) {
	t.Parallel()
	n := startNATS(t, localstack.NATSConfig{})
	l := dial(t, config(n.URL(), 1), true)
	r := read(t, l, 0, 1)
	ended := make(chan error, 1)
	go func() {
		_, _, err := r.Next(t.Context())
		ended <- err
	}()
	r.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, eventlog.ErrClosed) {
			t.Errorf("a waiting Next ended with %v", err)
		}
	case <-within(t).Done():
		t.Fatal("a waiting Next did not notice Close")
	}
}

// The bound on bytes holds back nothing for ever, even when one message is larger than it.
func TestReadLargerThanTheBound(t *testing.T) {
	t.Parallel()
	n := startNATS(t, localstack.NATSConfig{LazySync: true})
	l := dial(t, config(n.URL(), 1), true)
	big := string(make([]byte, 1000<<10))
	for range 5 {
		if _, err := l.AppendMessage(t.Context(), "acme", eventlog.KindEvents, map[string][]string{"Content-Type": {"application/json"}}, uuid.New(), []byte(big)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := l.Read(0, 1, eventlog.ReadOptions{BytesMax: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for seq := uint64(1); seq <= 5; seq++ {
		if m := wantMessage(t, r, seq, big); m.ContentType() != "application/json" || m.Kind != eventlog.KindEvents {
			t.Errorf("message %d: content type %q, kind %q", seq, m.ContentType(), m.Kind)
		}
	}
}

func TestReadGap(t *testing.T) {
	t.Parallel()
	n := startNATS(t, localstack.NATSConfig{})
	l := dial(t, config(n.URL(), 1), false)
	makeStream(t, l, func(c *jetstream.StreamConfig) { c.DenyDelete = false })
	for i := range 10 {
		appendText(t, l, "acme", fmt.Sprint(i+1))
	}
	stream, err := l.Conn().JetStream().Stream(within(t), "USAGE_0")
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{1, 2, 5, 9} {
		if err := stream.DeleteMsg(within(t), seq); err != nil {
			t.Fatal(err)
		}
	}
	r := read(t, l, 0, 1)
	for _, want := range []any{eventlog.Gap{From: 1, To: 2}, 3, 4, eventlog.Gap{From: 5, To: 5}, 6, 7, 8, eventlog.Gap{From: 9, To: 9}, 10} {
		if seq, ok := want.(int); ok {
			wantMessage(t, r, uint64(seq), fmt.Sprint(seq))
			continue
		}
		_, gap, err := r.Next(within(t))
		if err != nil || gap == nil || *gap != want {
			t.Fatalf("Next = gap %v, error %v, want gap %v", gap, err, want)
		}
	}
}

func TestReadOverRestarts(t *testing.T) {
	t.Parallel()
	n := startNATS(t, localstack.NATSConfig{})
	l := dial(t, config(n.URL(), 1), true)
	r := read(t, l, 0, 1)
	appendText(t, l, "acme", "1")
	wantMessage(t, r, 1, "1")
	for i := 2; i < 5; i++ {
		if err := n.Restart(); err != nil {
			t.Fatal(err)
		}
		appendText(t, l, "acme", fmt.Sprint(i)) // waits for the connection
		wantMessage(t, r, uint64(i), fmt.Sprint(i))
	}
}

// kill -9 under load: what was acknowledged is there, once, and the reader sees every sequence.
func TestReadOverKills(t *testing.T) {
	t.Parallel()
	s := localstack.Start(t, localstack.Options{NATSChild: true, NoClickHouse: true})
	cfg := config(s.NATSURL, 1)
	l := dial(t, cfg, true)
	const total = 400
	var mu sync.Mutex
	receipts := map[uint64]string{}
	var wg sync.WaitGroup
	for i := range total {
		wg.Add(1)
		text := fmt.Sprint(i)
		err := l.AppendAsync(t.Context(), "acme", uuid.New(), []byte(text), func(rc eventlog.Receipt, err error) {
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("append %s: %v", text, err)
			}
			receipts[rc.Seq] = text
		})
		if err != nil {
			t.Fatal(err)
		}
		if i%150 == 100 {
			s.NATSChild.Kill()
			if err := s.NATSChild.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	wg.Wait()
	r := read(t, l, 0, 1)
	for seq := uint64(1); seq <= total; seq++ {
		wantMessage(t, r, seq, receipts[seq])
	}
	if info, err := infoOf(t, l, 0); err != nil || info.Last != total {
		t.Errorf("the log ends at %d (%v), want %d: something is in it twice", info.Last, err, total)
	}
}

// A log that lost its end, as after a power cut with lazy sync, is said, not skipped over.
func TestReadBehind(t *testing.T) {
	t.Parallel()
	dir, saved := t.TempDir(), t.TempDir()
	n := startNATS(t, localstack.NATSConfig{Dir: dir})
	l := dial(t, config(n.URL(), 1), true)
	for i := 1; i <= 5; i++ {
		appendText(t, l, "acme", fmt.Sprint(i))
	}
	n.Stop()
	copyDir(t, dir, saved)
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	r := read(t, l, 0, 1)
	for i := 6; i <= 10; i++ {
		appendText(t, l, "acme", fmt.Sprint(i))
	}
	for i := 1; i <= 10; i++ {
		wantMessage(t, r, uint64(i), fmt.Sprint(i))
	}
	n.Stop()
	copyDir(t, saved, dir)
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	var behind *eventlog.BehindError
	if _, _, err := r.Next(within(t)); !errors.As(err, &behind) || behind.Next != 11 || behind.Last != 5 {
		t.Fatalf("Next on a log that went back = %v, want BehindError", err)
	}
	if _, _, err := r.Next(within(t)); !errors.As(err, &behind) {
		t.Fatalf("Next again = %v, want BehindError", err)
	}
	for i := 6; i <= 11; i++ {
		appendText(t, l, "acme", fmt.Sprint("again ", i))
	}
	var changed *eventlog.ChangedError // and grew past it again: 6 to 10 are others than were read
	if _, _, err := r.Next(within(t)); !errors.As(err, &changed) || changed.Seq != 10 {
		t.Fatalf("Next behind a changed tail = %v, want ChangedError", err)
	}
}

// The same while nothing disconnects: only the reader's own check can find it.
func TestReadBehindUnnoticed(t *testing.T) {
	t.Parallel()
	n := startNATS(t, localstack.NATSConfig{})
	l := dial(t, config(n.URL(), 1), false)
	makeStream(t, l, func(c *jetstream.StreamConfig) { c.DenyPurge = false })
	appendText(t, l, "acme", "1")
	r := read(t, l, 0, 1)
	wantMessage(t, r, 1, "1")
	js := l.Conn().JetStream()
	if err := js.DeleteStream(within(t), "USAGE_0"); err != nil {
		t.Fatal(err)
	}
	makeStream(t, l, func(*jetstream.StreamConfig) {})
	var recreated *eventlog.RecreatedError
	long := within(t)
	for {
		// Short waits, as an aggregator that flushes does: the check must come all the same.
		ctx, cancel := context.WithTimeout(long, 100*time.Millisecond)
		_, _, err := r.Next(ctx)
		cancel()
		if errors.As(err, &recreated) {
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) || long.Err() != nil {
			t.Fatalf("Next on a stream made anew = %v, want RecreatedError", err)
		}
	}
	if recreated.Last != 0 || !recreated.Is.After(recreated.Was) {
		t.Errorf("RecreatedError = %+v", recreated)
	}
	fresh, err := l.Read(0, 1, eventlog.ReadOptions{Created: recreated.Was})
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if _, _, err := fresh.Next(within(t)); !errors.As(err, &recreated) {
		t.Errorf("Next with the old creation time = %v, want RecreatedError", err)
	}
}

// The reader and a producer through real servers, at 100 events a chunk.
func BenchmarkRead(b *testing.B) {
	n := startNATS(b, localstack.NATSConfig{LazySync: true})
	l := dial(b, config(n.URL(), 1), true)
	chunk := encode(b, sample(100, 1))
	const total = 20_000
	var wg sync.WaitGroup
	for range total {
		wg.Add(1)
		if err := l.AppendAsync(b.Context(), "acme", uuid.New(), chunk, func(_ eventlog.Receipt, err error) {
			if err != nil {
				b.Error(err)
			}
			wg.Done()
		}); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	var c eventlog.Chunk
	b.ResetTimer()
	for range b.N {
		r := read(b, l, 0, 1)
		for seq := uint64(1); seq <= total; seq++ {
			m, _, err := r.Next(b.Context())
			if err != nil || m == nil || m.Seq != seq {
				b.Fatalf("Next = %v, %v", m, err)
			}
			if err := eventlog.DecodeChunk(m.Data, &c); err != nil {
				b.Fatal(err)
			}
		}
		r.Close()
	}
	b.ReportMetric(float64(b.N)*total*100/b.Elapsed().Seconds()/1e6, "Mevents/s")
}

func BenchmarkAppend(b *testing.B) {
	for _, lazy := range []bool{false, true} {
		b.Run(fmt.Sprintf("lazy=%t", lazy), func(b *testing.B) {
			n := startNATS(b, localstack.NATSConfig{LazySync: lazy})
			cfg := config(n.URL(), 1)
			cfg.MaxBytes = 4 << 30
			l := dial(b, cfg, true)
			chunk := encode(b, sample(100, 1))
			var wg sync.WaitGroup
			for b.Loop() {
				wg.Add(1)
				if err := l.AppendAsync(b.Context(), "acme", uuid.New(), chunk, func(_ eventlog.Receipt, err error) {
					if err != nil {
						b.Error(err)
					}
					wg.Done()
				}); err != nil {
					b.Fatal(err)
				}
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds()/1e6, "Mevents/s")
		})
	}
}

// TestReadBehindAChangedTail: the log lost its end and grew past it again with something else. Reading on
// from the same sequence would skip what took the place of what was read.
func TestReadBehindAChangedTail(t *testing.T) {
	t.Parallel()
	n := startNATS(t, localstack.NATSConfig{LazySync: true})
	l := dial(t, config(n.URL(), 1), true)
	for i := range 5 {
		appendText(t, l, "acme", fmt.Sprint(i+1))
	}
	m, err := get(t, l, 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	from := func(hash [16]byte) *eventlog.Reader {
		r, err := l.Read(0, 4, eventlog.ReadOptions{Hash: hash})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		return r
	}
	wantMessage(t, from(m.Hash), 4, "4")
	m.Hash[7]++
	var changed *eventlog.ChangedError
	if _, _, err := from(m.Hash).Next(within(t)); !errors.As(err, &changed) || changed.Seq != 3 {
		t.Errorf("Next behind another message 3 = %v, want a ChangedError", err)
	}
}
