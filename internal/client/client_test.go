package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/problem"
)

const receipt = `{"accepted":2,"rejected":0,"correlation_id":"c","errors":[]}`

// script answers requests one after the other and keeps their bodies.
type script struct {
	answers []func(w http.ResponseWriter)
	bodies  []string
	paths   []string
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.bodies, s.paths = append(s.bodies, string(body)), append(s.paths, r.URL.RequestURI())
	answer := s.answers[min(len(s.bodies), len(s.answers))-1]
	answer(w)
}

func status(code int, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// cut breaks the connection: the request may have had its effect.
func cut(http.ResponseWriter) { panic(http.ErrAbortHandler) }

func serve(t *testing.T, answers ...func(http.ResponseWriter)) (*client.Client, *script) {
	t.Helper()
	s := &script{answers: answers}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	c, err := client.New(client.Config{Ingest: server.URL + "/", Reporter: server.URL, Token: "k"})
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func TestSendUntilAnswered(t *testing.T) {
	busy := func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "0")
		problem.Write(w, problem.New(http.StatusServiceUnavailable, "log-unavailable", "later"))
	}
	c, s := serve(t, busy, cut, status(http.StatusTooManyRequests, ""), status(http.StatusBadGateway, "<html>"), status(http.StatusGatewayTimeout, ""), status(http.StatusAccepted, receipt))
	r, err := c.SendEvents(t.Context(), []byte(`[{"id":"1"}]`))
	if err != nil || r.Accepted != 2 || r.CorrelationID != "c" {
		t.Fatalf("receipt %+v, %v", r, err)
	}
	if len(s.bodies) != 6 {
		t.Errorf("%d requests, want 6", len(s.bodies))
	}
	if slices.ContainsFunc(s.bodies, func(b string) bool { return b != `[{"id":"1"}]` }) {
		t.Errorf("the bytes changed between requests: %q", s.bodies)
	}
	if s.paths[0] != "/api/v1/events?partial=true" {
		t.Errorf("path %s", s.paths[0])
	}
}

func TestRefusals(t *testing.T) {
	i := 1
	refused := func(w http.ResponseWriter) {
		problem.Write(w, problem.New(http.StatusUnprocessableEntity, "invalid-event", "bad").With(problem.Item{Index: &i, Code: "quantity"}))
	}
	tests := map[string]struct {
		answer  func(http.ResponseWriter)
		partial bool
		code    string // of the problem; "" for a receipt
	}{
		"refused as a whole":     {refused, false, "invalid-event"},
		"every event refused":    {refused, true, ""},
		"broken JSON":            {func(w http.ResponseWriter) { problem.Write(w, problem.New(422, "syntax", "bad")) }, true, "syntax"},
		"no key":                 {status(http.StatusUnauthorized, `{"code":"unauthorized"}`), true, "unauthorized"},
		"not a problem document": {status(http.StatusNotFound, "nothing here"), true, "http-404"},
		"too large":              {func(w http.ResponseWriter) { problem.Write(w, problem.New(413, "body-size", "big")) }, true, "body-size"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, s := serve(t, tt.answer)
			r, err := c.Send(t.Context(), "application/json", []byte(`[]`), tt.partial)
			var p *problem.Problem
			switch {
			case tt.code == "" && (err != nil || r.Rejected != 1 || *r.Errors[0].Index != 1):
				t.Errorf("receipt %+v, %v", r, err)
			case tt.code != "" && (!errors.As(err, &p) || p.Code != tt.code):
				t.Errorf("error %v, want code %s", err, tt.code)
			}
			if len(s.bodies) != 1 {
				t.Errorf("%d requests: a refusal was repeated", len(s.bodies))
			}
		})
	}
}

// TestUnreachable: a server that was never there is an error at once; one that went away is waited for.
func TestUnreachable(t *testing.T) {
	// An address of loopback that no other process uses: a port of 127.0.0.1 may be somebody's by the time it is needed.
	own := fmt.Sprintf("127.%d.%d.1:0", 64+os.Getpid()>>8&0x3f, os.Getpid()&0xff)
	l, err := net.Listen("tcp", own)
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	waiting := make(chan error, 100)
	c, err := client.New(client.Config{Ingest: "http://" + address, Reporter: "http://" + address, OnRetry: func(cause error, _ time.Duration) {
		select {
		case waiting <- cause:
		default:
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SendEvents(t.Context(), nil); !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), address) {
		t.Errorf("error %v, want ErrUnreachable and the address", err)
	}
	if err := c.Get(t.Context(), "/x", nil, nil); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("read: %v, want ErrUnreachable", err)
	}

	// It comes up, goes away, and comes back on the same port.
	back := listenAndServe(t, address)
	if _, err := c.SendEvents(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	_ = back.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := c.SendEvents(t.Context(), nil)
		sent <- err
	}()
	if cause := <-waiting; cause == nil {
		t.Error("no cause was told")
	}
	listenAndServe(t, address)
	if err := <-sent; err != nil {
		t.Errorf("after the server came back: %v", err)
	}
}

func listenAndServe(t *testing.T, address string) *http.Server {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: &script{answers: []func(http.ResponseWriter){status(http.StatusAccepted, receipt)}}, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestCancel(t *testing.T) {
	c, _ := serve(t, status(http.StatusServiceUnavailable, ""))
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped")
	cancel(stop)
	if _, err := c.SendEvents(ctx, nil); !errors.Is(err, stop) {
		t.Errorf("error %v, want the cause of the context", err)
	}
}

func TestReads(t *testing.T) {
	c, s := serve(t, status(http.StatusServiceUnavailable, ""), status(http.StatusOK, `{"n":7}`))
	var answer struct{ N int }
	if err := c.Get(t.Context(), "/things", url.Values{"a": {"b c"}}, &answer); err != nil || answer.N != 7 {
		t.Errorf("answer %+v, %v", answer, err)
	}
	if s.paths[1] != "/api/v1/things?a=b+c" {
		t.Errorf("path %s", s.paths[1])
	}
	c, s = serve(t, status(http.StatusServiceUnavailable, ""))
	var p *problem.Problem
	if err := c.Get(t.Context(), "/things", nil, &answer); !errors.As(err, &p) || p.Status != 503 || len(s.bodies) != 4 {
		t.Errorf("error %v after %d reads, want a 503 after 4", err, len(s.bodies))
	}
	if err := c.Call(t.Context(), http.MethodPost, "/things", map[string]int{"a": 1}, nil); err == nil || s.bodies[4] != `{"a":1}` || len(s.bodies) != 5 {
		t.Errorf("a change was repeated: %q, %v", s.bodies, err)
	}
}

func TestNew(t *testing.T) {
	for _, bad := range []string{"localhost:8080", "ftp://x", "http://", "://"} {
		if _, err := client.New(client.Config{Ingest: bad}); err == nil {
			t.Errorf("New took %q", bad)
		}
	}
}
