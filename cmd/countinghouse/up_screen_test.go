package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/stack"
)

// TestUpScreen: what stands beside the addresses begins in one column, whatever the ports, and a password that was
// changed since the first start is not told.
func TestUpScreen(t *testing.T) {
	t.Parallel()
	e := stack.Endpoints{
		Ingest: "http://127.0.0.1:8080", Reporter: "http://127.0.0.1:18081", NATS: "nats://127.0.0.1:4222", ClickHouseHTTP: "http://127.0.0.1:8123",
		Operator: &stack.Operator{Login: "admin", Password: "first-of-all"},
	}
	show := func() string {
		var out bytes.Buffer
		newUpScreen(&out).ready(e, "/srv/countinghouse", time.Second)
		return out.String()
	}
	text, columns := show(), map[int]bool{}
	for _, beside := range []string{"post events here", "sign in as admin, password first-of-all", "the same for programs", "usage_api, user"} {
		before, _, found := strings.Cut(text, beside)
		if !found {
			t.Errorf("%q is not said:\n%s", beside, text)
		}
		columns[len(before)-strings.LastIndex(before, "\n")] = true
	}
	if len(columns) != 1 {
		t.Errorf("the texts beside the addresses begin in %d columns:\n%s", len(columns), text)
	}
	e.Operator.Password = "" // what endpoints.json says of one that does not fit any more
	if text = show(); strings.Contains(text, "first-of-all") || !strings.Contains(text, "sign in as admin, with the password that was set since the first start") {
		t.Errorf("a password that was changed:\n%s", text)
	}
}
