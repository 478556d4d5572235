package problem_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/problem"
)

// TestWire speaks to a real server, so that a Go release that words its refusals otherwise is noticed.
func TestWire(t *testing.T) {
	t.Parallel()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{MaxHeaderBytes: 8 << 10, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "our own plain text", http.StatusBadRequest)
	})}
	go func() { _ = server.Serve(problem.Listener(l)) }()
	t.Cleanup(func() { _ = server.Close() })
	for name, tt := range map[string]struct {
		request string
		status  int
		code    string // "" for an answer that is left alone
	}{
		"headers too large": {"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 32<<10) + "\r\n\r\n", 431, problem.CodeHeaders},
		"no HTTP":           {"\x16\x03\x01 hello\r\n\r\n", 400, problem.CodeRequest},
		"no host":           {"GET / HTTP/1.1\r\n\r\n", 400, problem.CodeRequest},
		"a bad length":      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n", 400, problem.CodeRequest},
		"an odd encoding":   {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: odd\r\n\r\n", 501, problem.CodeRequest},
		"a handler's own":   {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, tt.request); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			var p problem.Problem
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			_ = json.Unmarshal(body, &p) // the handler's own is no JSON
			if res.StatusCode != tt.status || p.Code != tt.code || (tt.code != "") != (p.Status == tt.status && res.Header.Get("Content-Type") == problem.ContentType && res.Close) {
				t.Errorf("answered %s, %q: %s", res.Status, res.Header, body)
			}
		})
	}
}
