package telemetry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/telemetry"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestAdminPort(t *testing.T) {
	t.Parallel()
	v := telemetry.BuildVersion("ingest")
	reg := telemetry.NewRegistry(v)
	telemetry.NewIngest(reg).Events.WithLabelValues("accepted").Add(3)
	h := telemetry.NewHealth()
	var down error = errors.New("no server")
	h.Require("log", func() error { return down })
	h.Watch("durability", func() error { return errors.New("lossy by choice") })
	a, err := telemetry.Admin("127.0.0.1:0", h, reg, v)
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + a.Addr()
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := a.Close(ctx); err != nil {
			t.Error(err)
		}
	}()

	if code, _ := get(t, base+"/livez"); code != 200 {
		t.Errorf("/livez = %d while a dependency is down, want 200", code)
	}
	if code, body := get(t, base+"/readyz"); code != 503 || !strings.Contains(body, "[-] log: no server") {
		t.Errorf("/readyz = %d %q", code, body)
	}
	down = nil
	if code, body := get(t, base+"/readyz?verbose"); code != 200 || !strings.Contains(body, "[!] durability: lossy by choice") {
		t.Errorf("/readyz = %d %q, want ready with a warning", code, body)
	}
	h.Drain()
	if code, _ := get(t, base+"/readyz"); code != 503 {
		t.Errorf("/readyz = %d while draining, want 503", code)
	}
	if _, body := get(t, base+"/metrics"); !strings.Contains(body, `countinghouse_ingest_events_total{result="accepted"} 3`) ||
		!strings.Contains(body, "countinghouse_build_info") {
		t.Errorf("/metrics lacks our figures:\n%s", body)
	}
	if code, body := get(t, base+"/version"); code != 200 || !strings.Contains(body, `"service":"ingest"`) {
		t.Errorf("/version = %d %q", code, body)
	}
}
