package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/countinghouse/countinghouse/internal/stack"
)

// upScreen tells a person what `up` does. On a terminal the steps under way share one line that is
// redrawn; elsewhere every step is a line when it ends.
type upScreen struct {
	w   io.Writer
	tty bool

	mu      sync.Mutex
	running []string
	drawn   bool
}

func newUpScreen(w io.Writer) *upScreen { return &upScreen{w: w, tty: terminal(w)} }

func (s *upScreen) event(e stack.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Kind {
	case stack.Started:
		s.running = append(s.running, e.Part)
		s.draw()
	case stack.Done:
		s.remove(e.Part)
		text := ""
		if e.Text != "" {
			text = "  " + e.Text
		}
		s.line("  %s %-13s %6.1f s%s", s.mark("ok"), e.Part, e.Took.Seconds(), text)
		s.draw()
	case stack.Note:
		s.line("    %s: %s", e.Part, e.Text)
		s.draw()
	case stack.Restated:
		s.line("  %s  %s %s", time.Now().Format(time.TimeOnly), e.Part, e.Text)
	}
}

func (s *upScreen) remove(part string) {
	for i, p := range s.running {
		if p == part {
			s.running = append(s.running[:i], s.running[i+1:]...)
			return
		}
	}
}

func (s *upScreen) mark(word string) string {
	if s.tty {
		return "\033[32m" + word + "\033[0m"
	}
	return word
}

// draw shows what is under way, on a terminal only.
func (s *upScreen) draw() {
	if !s.tty || len(s.running) == 0 {
		return
	}
	fmt.Fprintf(s.w, "\r\033[K  .. %s", strings.Join(s.running, ", "))
	s.drawn = true
}

func (s *upScreen) line(format string, args ...any) {
	if s.drawn {
		fmt.Fprint(s.w, "\r\033[K")
		s.drawn = false
	}
	fmt.Fprintf(s.w, format+"\n", args...)
}

func (s *upScreen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line(format, args...)
}

// end leaves a clean line before an error.
func (s *upScreen) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drawn {
		fmt.Fprint(s.w, "\r\033[K")
		s.drawn = false
	}
}

// ready is what a newcomer needs next: addresses, and one line that works when pasted.
func (s *upScreen) ready(e stack.Endpoints, dir string, took time.Duration) {
	audit := os.Args[0] + " audit" // as it was called: it need not be on PATH
	if dir != defaultDir {
		audit += " --dir " + dir
	}
	body := `{"specversion":"1.0","id":"'$(date +%s%N)'","source":"curl","type":"usage.metered","subject":"acme","data":{"meter":"tokens","quantity":"42"}}`
	s.say(`
Countinghouse is up after %.1f s.

  ingest      %-24s  post events here
  pages       %-24s  %s
  reporter    %-24s  the same for programs; %s/api/v1/docs
  ClickHouse  %-24s  usage_api, user %s, password in endpoints.json
  NATS        %s
  files       %s  (key and pids in endpoints.json, logs in logs/)

Send an event and see it counted (in another terminal, as it stands):

  export COUNTINGHOUSE_TOKEN=%s
  curl -sS %s/api/v1/events -H "Authorization: Bearer $COUNTINGHOUSE_TOKEN" -H 'Content-Type: application/cloudevents+json' -d '%s'
  curl -sS "%s/api/v1/months/%s/usage" -H "Authorization: Bearer $COUNTINGHOUSE_TOKEN"
  %s

Ctrl-C stops everything.`,
		took.Seconds(), e.Ingest, e.Reporter, howToSignIn(e), e.Reporter, e.Reporter, e.ClickHouseHTTP, e.Analyst.User, e.NATS, absolute(dir),
		e.AdminToken, e.Ingest, body, e.Reporter, time.Now().UTC().Format("2006-01"), audit)
}

// howToSignIn says who may look at the pages.
func howToSignIn(e stack.Endpoints) string {
	if e.Operator == nil {
		return "make an operator to sign in with: countinghouse operators create --help"
	}
	if e.Operator.Password == "" {
		return fmt.Sprintf("sign in as %s, with the password that was set since the first start", e.Operator.Login)
	}
	return fmt.Sprintf("sign in as %s, password %s", e.Operator.Login, e.Operator.Password)
}

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}
