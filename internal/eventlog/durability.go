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

const varzMax = 4 << 20 // bytes of a monitoring answer

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
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/varz", nil)
	if err != nil {
		return v, fmt.Errorf("monitor url: %w", err)
	}
	req.Close = true // one question per connect; no idle connection is kept
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return v, fmt.Errorf("read server settings: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return v, fmt.Errorf("read server settings: %s answered %s", url, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, varzMax)).Decode(&v); err != nil {
		return v, fmt.Errorf("read server settings: %w", err)
	}
	if v.ServerID == "" {
		return v, fmt.Errorf("read server settings: %s is no NATS server", url)
	}
	return v, nil
}
