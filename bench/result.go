package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	latestFile  = "latest.json"
	historyFile = "history.jsonl"
)

// result is one run, as it is written to latest.json. README.md says what each figure means.
type result struct {
	EventsPerSecond     int                `json:"events_per_second"`
	FreshnessMS         quantiles          `json:"freshness_ms"`
	AckMS               quantiles          `json:"ack_ms"`
	HalfLoadAckMS       quantiles          `json:"half_load_ack_ms"`
	CPUSecondsPerM      map[string]float64 `json:"cpu_seconds_per_million"`
	RSSMiB              map[string]int     `json:"rss_mib"`
	BytesPerEvent       float64            `json:"bytes_per_event"`
	LogBytesPerEvent    float64            `json:"log_bytes_per_event"`
	DirectRowsPerSecond int                `json:"direct_insert_rows_per_second"`
	OfDirect            float64            `json:"of_direct_insert"`

	Events      int64     `json:"events"`
	Seconds     float64   `json:"seconds"`
	SendSeconds float64   `json:"send_seconds"`
	Refused     int64     `json:"requests_refused"`
	Connections int       `json:"connections"`
	Tenants     int       `json:"tenants"`
	Accounts    int       `json:"accounts_per_tenant"`
	Machine     string    `json:"machine"`
	Load        string    `json:"load_average_before"`
	Commit      string    `json:"commit"`
	At          time.Time `json:"at"`
}

type quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

func spread(sorted []time.Duration) quantiles {
	ms := func(d time.Duration) float64 { return round(float64(d)/float64(time.Millisecond), 1) }
	return quantiles{P50: ms(quantile(sorted, 0.50)), P99: ms(quantile(sorted, 0.99))}
}

func round(x float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(x*p) / p
}

func newResult(ctx context.Context, o options) result {
	return result{
		Connections: o.connections, Tenants: o.tenants, Accounts: o.accounts, Machine: machine(), Load: loadAverage(),
		Commit: commit(ctx), At: time.Now().UTC().Truncate(time.Second),
	}
}

// load fills in the figures of the load phase.
func (r *result) load(sent tally, took time.Duration, before, after bill) {
	r.Events, r.Seconds, r.Refused, r.AckMS = sent.accepted, round(took.Seconds(), 2), sent.refused, spread(sent.acks)
	r.EventsPerSecond = int(float64(sent.accepted) / took.Seconds())
	r.CPUSecondsPerM, r.RSSMiB = map[string]float64{}, map[string]int{}
	for part, u := range after {
		r.CPUSecondsPerM[part] = round((u.cpu-before[part].cpu).Seconds()/float64(sent.accepted)*1e6, 2)
		r.RSSMiB[part] = int(u.peak >> 20)
	}
}

func machine() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	model := runtime.GOARCH
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d × %s", runtime.NumCPU(), model)
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// commit is what git says of the folder the bench runs in, with + where files differ from it.
func commit(ctx context.Context) string {
	text, err := exec.CommandContext(ctx, "git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+").Output()
	if err != nil {
		return "" // no git, or not its folder
	}
	return strings.TrimSpace(string(text))
}

// readResult is the last recorded run, or nil.
func readResult(path string) (*result, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r result
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &r, nil
}

func (r *result) save(dir string, record bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, latestFile), append(text, '\n'), 0o644); err != nil {
		return err
	}
	if !record {
		return nil
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, historyFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// figure is one line of the table.
type figure struct {
	name   string
	value  float64
	format string
	target string // of issue 3
}

// The targets, for two cores with everything on them.
func (r *result) figures() []figure {
	list := []figure{
		{"events/s, POST to ledger", float64(r.EventsPerSecond), "%.0f", "≥ 200000"},
		{"freshness at half load, p50 ms", r.FreshnessMS.P50, "%.0f", "≤ 1000"},
		{"freshness at half load, p99 ms", r.FreshnessMS.P99, "%.0f", "≤ 2000"},
		{"202 at full load, p50 ms", r.AckMS.P50, "%.1f", ""},
		{"202 at full load, p99 ms", r.AckMS.P99, "%.1f", ""},
		{"202 at half load, p50 ms", r.HalfLoadAckMS.P50, "%.1f", ""},
		{"202 at half load, p99 ms", r.HalfLoadAckMS.P99, "%.1f", ""},
	}
	cpu := map[string]string{"ingest": "≤ 1.2", "nats": "≤ 0.4", "aggregator": "≤ 1.0", "clickhouse": "≤ 1.6"}
	for _, part := range slices.Sorted(maps.Keys(r.CPUSecondsPerM)) {
		list = append(list, figure{"CPU-s per million events, " + part, r.CPUSecondsPerM[part], "%.2f", cpu[part]})
	}
	memory := map[string]string{"ingest": "≤ 128", "aggregator": "≤ 256 + 2.5 B/identity"}
	for _, part := range slices.Sorted(maps.Keys(r.RSSMiB)) {
		list = append(list, figure{"peak resident MiB, " + part, float64(r.RSSMiB[part]), "%.0f", memory[part]})
	}
	return append(list,
		figure{"bytes per event in ClickHouse", r.BytesPerEvent, "%.1f", "≤ 80"},
		figure{"bytes per event in the log", r.LogBytesPerEvent, "%.1f", "≤ 120"},
		figure{"direct insert, rows/s", float64(r.DirectRowsPerSecond), "%.0f", ""},
		figure{"events/s of direct insert", r.OfDirect, "%.2f", "≥ 0.4"})
}

// table prints the run beside the last recorded one.
func (r *result) table(out io.Writer, last *result) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	was := map[string]float64{}
	title := ""
	if last != nil {
		title = "last"
		if last.Commit != "" {
			title = last.Commit
		}
		for _, f := range last.figures() {
			was[f.name] = f.value
		}
	}
	fmt.Fprintf(w, "\nfigure\tnow\t%s\tchange\ttarget\t\n", title)
	for _, f := range r.figures() {
		before, change := "", ""
		if old, ok := was[f.name]; ok && old != 0 {
			before, change = fmt.Sprintf(f.format, old), fmt.Sprintf("%+.0f %%", (f.value/old-1)*100)
		}
		fmt.Fprintf(w, "%s\t"+f.format+"\t%s\t%s\t%s\t\n", f.name, f.value, before, change, f.target)
	}
	_ = w.Flush() // out reports its own errors to whoever reads it
	fmt.Fprintf(out, "\n%d events in %.1f s; %s; load average before: %s; commit %s\n", r.Events, r.Seconds, r.Machine, r.Load, r.Commit)
}
