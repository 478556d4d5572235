package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	latestFile  = "latest.json"
	historyFile = "history.jsonl"
)

// figure is one line of a table.
type figure struct {
	key    string // in latest.json, for ever
	name   string
	value  float64
	format string
	target target
}

// target is the limit of a figure, from issue 3; the zero target is none.
type target struct {
	sign  string
	limit float64
}

func atLeast(limit float64) target { return target{"≥", limit} }
func atMost(limit float64) target  { return target{"≤", limit} }

func (t target) met(v float64) bool {
	switch t.sign {
	case "≥":
		return v >= t.limit
	case "≤":
		return v <= t.limit
	}
	return true
}

func (t target) String() string {
	if t.sign == "" {
		return ""
	}
	return t.sign + " " + strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", t.limit), "0"), ".")
}

// record is one run of one section of the bench, as it is kept.
type record struct {
	Section string             `json:"section"`
	Command string             `json:"command"`
	Commit  string             `json:"commit"`
	Machine string             `json:"machine"`
	Load    string             `json:"load_average_before"`
	At      time.Time          `json:"at"`
	Figures map[string]float64 `json:"figures"`
}

// newRecord is made before the run: the load average is that of the machine without it.
func newRecord(ctx context.Context, section string) record {
	return record{
		Section: section, Command: strings.Join(append([]string{"bench"}, os.Args[1:]...), " "), Commit: commit(ctx), Machine: machine(),
		Load: loadAverage(), At: time.Now().UTC().Truncate(time.Second),
	}
}

// finish prints the figures beside those of the last run of the section, and keeps them.
func (r record) finish(o options, figures []figure, out io.Writer) error {
	latest, err := readLatest(o.out)
	if err != nil {
		return err
	}
	r.Figures = map[string]float64{}
	for _, f := range figures {
		r.Figures[f.key] = f.value
	}
	r.table(out, figures, latest[r.Section])
	if o.out == "" {
		return nil
	}
	latest[r.Section] = r
	return r.save(o.out, latest, o.record)
}

// readLatest is the last run of each section.
func readLatest(dir string) (map[string]record, error) {
	latest := map[string]record{}
	path := filepath.Join(dir, latestFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || dir == "" {
		return latest, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &latest); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return latest, nil
}

func (r record) save(dir string, latest map[string]record, keep bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(latest, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, latestFile), append(text, '\n'), 0o644); err != nil {
		return err
	}
	if !keep {
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

// table prints the run beside the last one.
func (r record) table(out io.Writer, figures []figure, last record) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	title := last.Commit
	if title == "" {
		title = "last"
	}
	fmt.Fprintf(w, "\n%s\tnow\t%s\tchange\ttarget\t\t\n", r.Section, title)
	for _, f := range figures {
		before, change, missed := "", "", ""
		if old, ok := last.Figures[f.key]; ok && old != 0 {
			before, change = fmt.Sprintf(f.format, old), fmt.Sprintf("%+.0f %%", (f.value/old-1)*100)
		}
		if !f.target.met(f.value) {
			missed = "missed"
		}
		fmt.Fprintf(w, "%s\t"+f.format+"\t%s\t%s\t%s\t%s\t\n", f.name, f.value, before, change, f.target, missed)
	}
	_ = w.Flush() // out reports its own errors to whoever reads it
	fmt.Fprintf(out, "\n%s; %s; load average before: %s; commit %s\n", r.Command, r.Machine, r.Load, r.Commit)
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
