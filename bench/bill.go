package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// bill is what each process has used so far.
type bill map[string]spent

type spent struct {
	cpu  time.Duration
	peak int64 // bytes resident, at most
}

// generator is this process.
const generator = "generator"

// bill reads /proc. Linux counts CPU in ticks of 1/100 s on every machine Go runs on.
func (s *system) bill() (bill, error) {
	b := bill{}
	pids := map[string]int{generator: os.Getpid()}
	for part, pid := range s.endpoints.PIDs {
		pids[part] = pid
	}
	for part, pid := range pids {
		u, err := spentBy(pid)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part, err)
		}
		b[part] = u
	}
	return b, nil
}

func spentBy(pid int) (spent, error) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return spent{}, fmt.Errorf("a process is gone: %w", err)
	}
	// The name, in parentheses, may hold anything; utime and stime are the 12th and 13th after it.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return spent{}, fmt.Errorf("%s/stat has %d fields", proc, len(fields))
	}
	var u spent
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			if err != nil {
				return u, err
			}
			u.peak = kib << 10
		}
	}
	return u, nil
}

// forgetPeaks makes the kernel measure the peaks anew: a stack that was running has a past.
func (s *system) forgetPeaks() {
	for _, pid := range s.endpoints.PIDs {
		// Not permitted for another user's process; the peak is then of its whole life.
		_ = os.WriteFile(filepath.Join("/proc", strconv.Itoa(pid), "clear_refs"), []byte("5"), 0)
	}
}

// profile fetches CPU and heap profiles of the services while they work.
func (s *system) profile(ctx context.Context, dir string, seconds int) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, part := range []string{"ingest", "aggregator"} {
		for name, query := range map[string]string{"cpu": "profile?seconds=" + strconv.Itoa(seconds), "allocs": "allocs?seconds=" + strconv.Itoa(seconds)} {
			g.Go(func() error {
				return fetch(ctx, s.endpoints.Admin[part]+"/debug/pprof/"+query, filepath.Join(dir, part+"."+name+".pprof"))
			})
		}
	}
	return g.Wait()
}

func fetch(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
