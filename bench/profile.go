package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/countinghouse/countinghouse/internal/stack"
)

// profile writes into dir where the CPU went while the parts worked: CPU and allocation profiles of our
// services by pprof, NATS and ClickHouse by perf, as far as they run here and perf is installed. ClickHouse's
// engine may come without symbols: what perf can name then is the kernel's share.
func (s *system) profile(ctx context.Context, dir string, seconds int, out io.Writer) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, part := range []string{stack.PartIngest, stack.PartAggregator} {
		if s.endpoints.Admin[part] == "" {
			continue
		}
		for name, query := range map[string]string{"cpu": "profile?seconds=" + strconv.Itoa(seconds), "allocs": "allocs?seconds=" + strconv.Itoa(seconds)} {
			g.Go(func() error {
				return fetch(gctx, s.endpoints.Admin[part]+"/debug/pprof/"+query, filepath.Join(dir, part+"."+name+".pprof"))
			})
		}
	}
	for _, part := range []string{stack.PartNATS, stack.PartClickHouse} {
		g.Go(func() error {
			if err := perf(gctx, s.endpoints.PIDs[part], seconds, filepath.Join(dir, part)); err != nil {
				fmt.Fprintf(out, "no profile of %s: %v\n", part, err) // perf may be missing, or not allowed
			}
			return nil
		})
	}
	return g.Wait()
}

// perf records a process, whole stacks, and writes what `perf report` makes of it beside it.
func perf(ctx context.Context, pid, seconds int, path string) error {
	data := path + ".perf.data"
	record := exec.CommandContext(ctx, "perf", "record", "-q", "-F", "199", "-g", "-p", strconv.Itoa(pid), "-o", data, "--", "sleep", strconv.Itoa(seconds))
	if text, err := record.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	text, err := exec.CommandContext(ctx, "perf", "report", "--stdio", "--no-children", "-g", "none", "--percent-limit", "0.3", "-i", data).Output()
	if err != nil {
		return err
	}
	return os.WriteFile(path+".perf.txt", text, 0o644)
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
