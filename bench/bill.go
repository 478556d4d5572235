package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
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
