package backup_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/backup"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/localstack"
)

func TestMain(m *testing.M) { localstack.Main(m) }

func open(t *testing.T) *eventlog.Log {
	t.Helper()
	s := localstack.Start(t, localstack.Options{NoClickHouse: true})
	cfg := eventlog.DefaultConfig()
	cfg.URL, cfg.MaxBytes = s.NATSURL, 1<<30
	l, err := eventlog.Dial(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for err = errors.New("first"); err != nil; {
		if _, err = l.Conn().Streams(ctx); ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	return l
}

// TestRoundTrip: a restored log has the same messages at the same positions with the same timestamps,
// and goes on behind them.
func TestRoundTrip(t *testing.T) {
	from := open(t)
	if err := from.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	const n = 200
	for i := range n {
		data := bytes.Repeat([]byte{byte(i)}, 10_000) // several snapshot chunks
		if _, err := from.AppendMessage(t.Context(), "t1", eventlog.KindEvents, nil, uuid.New(), data); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file, made, err := backup.Create(t.Context(), from.Conn(), dir, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Streams) != 1 || made.Streams[0].Messages != n || made.Streams[0].LastSeq != n {
		t.Errorf("manifest %+v", made)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files in %s, want the backup alone", len(left), dir)
	}

	to := open(t)
	if _, err := backup.Restore(t.Context(), to.Conn(), file, nil); err != nil {
		t.Fatal(err)
	}
	if err := to.EnsureStreams(t.Context()); err != nil {
		t.Errorf("restored log is not as configured: %v", err)
	}
	for seq := uint64(1); seq <= n; seq++ {
		a, errA := from.Get(t.Context(), 0, seq)
		b, errB := to.Get(t.Context(), 0, seq)
		if errA != nil || errB != nil || a.Hash != b.Hash || a.Time != b.Time || !bytes.Equal(a.Data, b.Data) {
			t.Fatalf("message %d differs (%v, %v)", seq, errA, errB)
		}
	}
	r, err := to.AppendMessage(t.Context(), "t1", eventlog.KindEvents, nil, uuid.New(), []byte("next"))
	if err != nil || r.Seq != n+1 {
		t.Errorf("appended at %d (%v), want %d", r.Seq, err, n+1)
	}
	if _, err := backup.Restore(t.Context(), to.Conn(), file, nil); !errors.Is(err, eventlog.ErrExists) {
		t.Errorf("restore over a log: %v, want ErrExists", err)
	}
}

func TestDamagedBackup(t *testing.T) {
	from := open(t)
	if err := from.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := from.AppendMessage(t.Context(), "t1", eventlog.KindEvents, nil, uuid.New(), bytes.Repeat([]byte("x"), 5000)); err != nil {
		t.Fatal(err)
	}
	file, _, err := backup.Create(t.Context(), from.Conn(), filepath.Join(t.TempDir(), "b.tar"), time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"empty":     {},
		"cut":       good[:len(good)/2],
		"one bit":   flip(good, len(good)-1800),
		"other tar": []byte("not a tar at all"),
	} {
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		to := open(t)
		if _, err := backup.Restore(t.Context(), to.Conn(), file, nil); err == nil {
			t.Errorf("%s: restored", name)
		}
		if names, err := to.Conn().Streams(t.Context()); err != nil || len(names) != 0 {
			t.Errorf("%s: streams %v, %v after a refused restore", name, names, err)
		}
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}
