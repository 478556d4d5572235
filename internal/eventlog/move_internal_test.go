package eventlog

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

func TestMover(t *testing.T) {
	t.Parallel()
	var m mover
	var moved []time.Duration
	start := time.Now()
	for at := time.Duration(0); at <= 20*time.Second; at += 500 * time.Millisecond {
		if m.failed(start.Add(at)) {
			moved = append(moved, at)
		}
	}
	// As long as an election takes, then three seconds each: counted from the first failure after a move.
	if want := []time.Duration{9 * time.Second, 12500 * time.Millisecond, 16 * time.Second, 19500 * time.Millisecond}; !slices.Equal(moved, want) {
		t.Errorf("moved at %v, want %v", moved, want)
	}
	if got := m.attempt(); got != attemptMoved {
		t.Errorf("behind a move an attempt takes %s, want %s", got, attemptMoved)
	}
	m.worked()
	if got := m.attempt(); got != attemptMax {
		t.Errorf("behind a write that was acknowledged an attempt takes %s, want %s", got, attemptMax)
	}
	if now := start.Add(time.Minute); m.failed(now) || m.failed(now.Add(2*time.Second)) || m.failed(now.Add(2*time.Second+moveStale+1)) {
		t.Error("moved on account of failures that are long past")
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	var lost []Gap
	l := &Log{log: zap.NewNop()}
	l.OnLost(func(_ int, g Gap) { lost = append(lost, g) })
	before := time.Now()
	l.confirm(Receipt{Seq: 10}, before, "a")
	l.confirm(Receipt{Seq: 9}, before, "b") // overtaken on the way
	l.confirm(Receipt{Partition: 1, Seq: 3}, time.Now(), "c")
	l.confirm(Receipt{Seq: 11}, time.Now(), "d")
	if len(lost) > 0 {
		t.Errorf("lost %v, and the log was sound", lost)
	}
	l.confirm(Receipt{Seq: 7}, time.Now().Add(time.Millisecond), "e")
	l.confirm(Receipt{Seq: 8}, time.Now().Add(time.Millisecond), "f")
	if want := []Gap{{From: 7, To: 11}}; !slices.Equal(lost, want) {
		t.Errorf("lost %v, want %v", lost, want)
	}
}

func TestUnheard(t *testing.T) {
	t.Parallel()
	peer := func(current bool, active time.Duration) *jetstream.PeerInfo {
		return &jetstream.PeerInfo{Current: current, Active: active}
	}
	for name, tt := range map[string]struct {
		replicas int
		peers    []*jetstream.PeerInfo
		want     time.Duration
	}{
		"one server":             {1, nil, 0},
		"both heard":             {3, []*jetstream.PeerInfo{peer(true, 2*time.Second), peer(true, time.Second)}, time.Second},
		"one heard":              {3, []*jetstream.PeerInfo{peer(false, 0), peer(true, 3*time.Second)}, 3 * time.Second},
		"nobody heard":           {3, []*jetstream.PeerInfo{peer(false, 0), peer(false, time.Hour)}, 24 * time.Hour},
		"two of four, five know": {5, []*jetstream.PeerInfo{peer(true, 4), peer(true, 1), peer(true, 3), peer(false, 0)}, 3},
	} {
		info := &jetstream.StreamInfo{Config: jetstream.StreamConfig{Replicas: tt.replicas}, Cluster: &jetstream.ClusterInfo{Replicas: tt.peers}}
		if got := unheard(info); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
