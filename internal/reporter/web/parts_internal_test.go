package web

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

func TestGrouped(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "0": "0", "999": "999", "1000": "1,000", "-1234567.8900": "-1,234,567.8900", "0.0001": "0.0001", "+12000": "+12,000",
		"12 apples": "12 apples", "never": "never", "2026-01-01": "2026-01-01", "99999999999999999999999999999.000000001": "99,999,999,999,999,999,999,999,999,999.000000001",
	} {
		if got := grouped(in); got != want {
			t.Errorf("grouped(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestChange(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ now, past, want string }{
		{"110", "100", "+10 %"}, {"90", "100", "-10 %"}, {"100", "100", "0 %"}, {"1", "3", "-66.7 %"}, {"2", "3", "-33.3 %"}, {"1.125", "1", "+12.5 %"},
		{"5", "0", ""}, {"0", "5", "-100 %"}, {"0", "0", ""}, {"10000000000000000000000000000.1", "0.1", "more than ten thousand %"},
	} {
		if got := change(tt.now, tt.past); got != tt.want {
			t.Errorf("change(%q, %q) = %q, want %q", tt.now, tt.past, got, tt.want)
		}
	}
}

// TestSums adds decimals of any scale as big.Rat does.
func TestSums(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		decimals := rapid.SliceOf(rapid.StringMatching(`-?[0-9]{1,30}(\.[0-9]{1,9})?`)).Draw(t, "decimals")
		want := new(big.Rat)
		for _, d := range decimals {
			n, _ := new(big.Rat).SetString(d)
			want.Add(want, n)
		}
		got, ok := new(big.Rat).SetString(sumOf(decimals))
		if !ok || got.Cmp(want) != 0 {
			t.Fatalf("sum of %v = %s, want %s", decimals, sumOf(decimals), want.FloatString(9))
		}
	})
}

// TestChart draws whatever numbers come: inside the picture, higher for more, and with few lines.
func TestChart(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.StringMatching(`-?[0-9]{1,25}(\.[0-9]{1,9})?`), 1, 60).Draw(t, "values")
		c := chart{labels: make([]string, len(values)), values: values}
		d := c.draw()
		if len(d.grid) > 12 {
			t.Fatalf("%d grid lines", len(d.grid))
		}
		for _, m := range d.marks {
			if m.x < chartLeft || m.x+m.w > chartWide || m.y < chartTop || m.y+m.h > chartHigh || m.w < 1 || m.h < 1 {
				t.Fatalf("bar %+v is outside of the picture; values %v", m, values)
			}
		}
	})
	if d := (chart{}).draw(); len(d.marks) != 0 {
		t.Errorf("nothing draws %+v", d)
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		n     int64
		scale int
		want  string
	}{{0, 0, "0"}, {5, 1, "0.5"}, {1500, 0, "1.5 k"}, {20_000_000, 0, "20 M"}, {-2500, 0, "-2.5 k"}, {150, 2, "1.5"}} {
		if got := short(big.NewInt(tt.n), tt.scale); got != tt.want {
			t.Errorf("short(%d, %d) = %q, want %q", tt.n, tt.scale, got, tt.want)
		}
	}
}

func TestShownBytes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ raw, want string }{
		"JSON":           {`{"a":1}`, "{\n  \"a\": 1\n}"},
		"escape codes":   {"a\x1b[31mb", `a\x1b[31mb`},
		"turned around":  {"a\u202eb", `a\u202eb`},
		"lines and tabs": {"a\n\tb", "a\n\tb"},
	} {
		if got, _ := shownBytes([]byte(tt.raw)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	if got, note := shownBytes(bytes.Repeat([]byte{0xff, 0}, 10_000)); !strings.Contains(note, "hexadecimal") || !strings.HasPrefix(got, "00000000  ff 00") {
		t.Errorf("binary: %q %.60q", note, got)
	}
}

// TestTroubles: who is told that a server does not answer is told to come again; only a defect is called one.
func TestTroubles(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err    error
		status int
		says   string
	}{
		"control state away": {fmt.Errorf("list keys: %w: nats: timeout", control.ErrUnavailable), http.StatusServiceUnavailable, "cannot be read right now"},
		"warehouse silent":   {fmt.Errorf("read months: %w", warehouse.ErrSilent), http.StatusServiceUnavailable, "cannot be read right now"},
		"a defect":           {errors.New("no such thing"), http.StatusInternalServerError, "could not be made"},
	} {
		s := &Site{Parts: Parts{Log: zap.NewNop()}}
		answer := httptest.NewRecorder()
		v := &visit{Request: httptest.NewRequest(http.MethodGet, "/?part=rows", nil), w: answer, now: time.Now()}
		s.fail(v, tt.err)
		if answer.Code != tt.status || !strings.Contains(answer.Body.String(), tt.says) || (answer.Header().Get("Retry-After") != "") != (tt.status == http.StatusServiceUnavailable) {
			t.Errorf("%s: %d %v %s, want %d %q", name, answer.Code, answer.Header(), answer.Body, tt.status, tt.says)
		}
	}
}

func TestMarks(t *testing.T) {
	t.Parallel()
	m, err := parseMark("1700000000123.4.5.6")
	if err != nil || markText(m) != "1700000000123.4.5.6" {
		t.Errorf("there and back: %v, %v", m, err)
	}
	for _, bad := range []string{"", "1.2.3", "a.1.2.3", "1.70000.2.3", "1.2.3.-4", "1.2.3.4.5"} {
		if _, err := parseMark(bad); err == nil {
			t.Errorf("%q is taken for a place", bad)
		}
	}
}

// TestVendored holds what others wrote to what npm has of that version: the checksums are of the files in the package
// whose integrity the registry publishes.
func TestVendored(t *testing.T) {
	for name, want := range map[string]string{ // uplot-1.6.32.tgz, sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==
		"static/uplot/uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
		"static/uplot/uPlot.min.css":     "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
		"static/uplot/LICENSE":           "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
	} {
		content, err := assets.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(content)); got != want {
			t.Errorf("%s has checksum %s, want %s", name, got, want)
		}
	}
}

func TestColumnTitle(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"account_name": "Account name", "tenantName": "Tenant name", "cost": "Cost", "Account Name": "Account Name", "TXN_ID": "TXN_ID", "": "", "assetId": "Asset id",
		"SMS/Voice Credits Used": "SMS/Voice Credits Used",
	} {
		if got := columnTitle(name); got != want {
			t.Errorf("columnTitle(%q) = %q, want %q", name, got, want)
		}
	}
}
