package telemetry

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

// Health is the set of named checks behind /readyz. The zero value is not usable; call NewHealth.
// Checks must answer at once from state the service keeps anyway: a probe may not start work.
type Health struct {
	mu       sync.Mutex
	checks   map[string]check
	draining atomic.Bool
}

type check struct {
	required bool
	probe    func() error
}

// NewHealth has no checks and is ready.
func NewHealth() *Health { return &Health{checks: map[string]check{}} }

// Require makes readiness depend on probe returning nil.
func (h *Health) Require(name string, probe func() error) { h.add(name, check{true, probe}) }

// Watch shows what probe says as a warning; readiness does not depend on it.
func (h *Health) Watch(name string, probe func() error) { h.add(name, check{false, probe}) }

func (h *Health) add(name string, c check) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks[name] = c
}

// Drain makes the service unready for good: it finishes what it has and takes nothing new.
func (h *Health) Drain() { h.draining.Store(true) }

// Draining reports whether Drain was called.
func (h *Health) Draining() bool { return h.draining.Load() }

// Ready is nil when every required check passes; otherwise it names those that do not.
func (h *Health) Ready() error {
	ready, report := h.report()
	if ready {
		return nil
	}
	return fmt.Errorf("not ready: %s", strings.Join(strings.Split(strings.TrimSpace(report), "\n"), "; "))
}

// report is the body of /readyz?verbose: one line a check, in name order.
func (h *Health) report() (ready bool, body string) {
	h.mu.Lock()
	names := make([]string, 0, len(h.checks))
	checks := make(map[string]check, len(h.checks))
	for name, c := range h.checks {
		names = append(names, name)
		checks[name] = c
	}
	h.mu.Unlock()
	sort.Strings(names)

	ready = true
	var b strings.Builder
	if h.draining.Load() {
		ready = false
		b.WriteString("[-] draining: shutting down\n")
	}
	for _, name := range names {
		err := checks[name].probe()
		switch {
		case err == nil:
			fmt.Fprintf(&b, "[+] %s ok\n", name)
		case checks[name].required:
			ready = false
			fmt.Fprintf(&b, "[-] %s: %v\n", name, err)
		default:
			fmt.Fprintf(&b, "[!] %s: %v\n", name, err)
		}
	}
	return ready, b.String()
}
