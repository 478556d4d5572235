package eventlog

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Sync is when the NATS servers write to disk.
type Sync string

// The server acknowledges after fsync, before it, or does not say.
const (
	SyncAlways  Sync = "always"
	SyncLazy    Sync = "lazy"
	SyncUnknown Sync = "unknown"
)

// Durability is what a receipt is worth.
type Durability struct {
	Sync     Sync
	Interval time.Duration // between fsyncs, if lazy
	Replicas int           // the fewest of any partition
	Reason   string        // why Sync is unknown
}

// Safe reports whether a receipt survives a power cut: every acknowledgement comes after an fsync, or
// three servers hold the bytes. Unknown is not safe.
func (d Durability) Safe() bool { return d.Sync == SyncAlways || d.Replicas >= 3 }

func (d Durability) String() string {
	s := fmt.Sprintf("sync %s, %d replicas", d.Sync, d.Replicas)
	if d.Sync == SyncLazy {
		s = fmt.Sprintf("sync every %s, %d replicas", d.Interval, d.Replicas)
	}
	if d.Reason != "" {
		s += " (" + d.Reason + ")"
	}
	return s
}

const (
	monitorMax = 4 << 20 // bytes of a monitoring answer
	faultWait  = 500 * time.Millisecond
	faultKeep  = time.Second // how long one answer about a server's health serves all appends
)

// Durability asks the monitoring endpoints (MonitorURLs) of the NATS servers, and the streams for their
// replicas. A setting that cannot be read is SyncUnknown with a reason; the error is only for the
// streams. Ask again after each reconnect: another server may have answered.
func (l *Log) Durability(ctx context.Context) (Durability, error) {
	d := Durability{}
	for p := range l.cfg.Partitions {
		info, err := l.Info(ctx, p)
		if err != nil {
			return Durability{Sync: SyncUnknown}, fmt.Errorf("durability: %w", err)
		}
		if d.Replicas == 0 || info.Replicas < d.Replicas {
			d.Replicas = info.Replicas
		}
	}
	d.Sync = SyncAlways
	unknown := func(format string, args ...any) (Durability, error) {
		d.Sync, d.Reason = SyncUnknown, fmt.Sprintf(format, args...)
		return d, nil
	}
	if len(l.cfg.MonitorURLs) == 0 {
		return unknown("no monitor_urls configured")
	}
	connected := l.conn.nc.ConnectedServerId()
	found := false
	for _, url := range l.cfg.MonitorURLs {
		v, err := varz(ctx, url)
		if err != nil {
			return unknown("%v", err)
		}
		found = found || v.ServerID == connected
		if v.JetStream.Config == nil {
			return unknown("%s has no JetStream", url)
		}
		if !v.JetStream.Config.SyncAlways {
			d.Sync, d.Interval = SyncLazy, v.JetStream.Config.SyncInterval
		}
	}
	if !found {
		return unknown("the connected server %s is none of monitor_urls", connected)
	}
	return d, nil
}

type serverVariables struct {
	ServerID  string `json:"server_id"`
	JetStream struct {
		Config *struct {
			SyncAlways   bool          `json:"sync_always"`
			SyncInterval time.Duration `json:"sync_interval"`
		} `json:"config"`
	} `json:"jetstream"`
}

func varz(ctx context.Context, url string) (serverVariables, error) {
	var v serverVariables
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	status, err := monitor(ctx, url, "/varz", &v)
	switch {
	case err != nil:
		return v, fmt.Errorf("read server settings: %w", err)
	case status != http.StatusOK:
		return v, fmt.Errorf("read server settings: %s answered %d", url, status)
	case v.ServerID == "":
		return v, fmt.Errorf("read server settings: %s is no NATS server", url)
	}
	return v, nil
}

func monitor(ctx context.Context, url, path string, into any) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+path, nil)
	if err != nil {
		return 0, fmt.Errorf("monitor url: %w", err)
	}
	req.Close = true // rare questions; no idle connection is kept
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask nats: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, monitorMax)).Decode(into); err != nil {
		return resp.StatusCode, fmt.Errorf("ask nats: answer of %s: %w", path, err)
	}
	return resp.StatusCode, nil
}

// isFull reports that an append found the disk full so short a time ago that it is not worth another try:
// who has waited in a queue behind it must not wait for the same silence again.
func (l *Log) isFull() bool {
	return time.Since(time.Unix(0, l.fullAt.Load())) < faultKeep
}

// WriteFault answers what keeps a server from writing, if one says so: ErrFull when its disk is full. A
// server whose write failed answers no append any more, not even with an error, and goes on so when
// there is space again until it is restarted (measured with 2.15.2); only /healthz tells. Nil if all is
// well or nobody knows.
func (l *Log) WriteFault(ctx context.Context) error {
	l.faultMu.Lock()
	defer l.faultMu.Unlock()
	if time.Since(l.faultAt) < faultKeep {
		return l.fault
	}
	l.fault = l.askWriteFault(ctx)
	l.faultAt = time.Now()
	return l.fault
}

func (l *Log) askWriteFault(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, faultWait)
	defer cancel()
	for _, url := range l.cfg.MonitorURLs {
		var health struct {
			Error string `json:"error"`
		}
		status, err := monitor(ctx, url, "/healthz", &health)
		if err != nil || status == http.StatusOK || !strings.Contains(health.Error, "write error") {
			continue
		}
		if strings.Contains(health.Error, "no space left") {
			return fmt.Errorf("%w: %s", ErrFull, health.Error)
		}
		return fmt.Errorf("%w: %s", ErrUnavailable, health.Error)
	}
	return nil
}
