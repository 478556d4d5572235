package usage_test

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/usage"
)

func TestQuantity(t *testing.T) {
	tests := map[string]string{ // text to canonical text; "" must be refused
		"0": "0", "-0": "0", "0.0": "0", "0e999999999999999999999": "0", "1": "1", "1.0": "1", "1e0": "1", "1E+3": "1000", "1e3": "1000", "-0.5": "-0.5",
		"0.000000001": "0.000000001", "1e-9": "0.000000001", "10e-10": "0.000000001", "1.0000000000": "1", "0.00000000010e1": "0.000000001",
		"99999999999999999999.999999999": "99999999999999999999.999999999", "-99999999999999999999.999999999": "-99999999999999999999.999999999",
		"9999999999999999999e1": "99999999999999999990", "123456789012345678": "123456789012345678", "1234567890123456789": "1234567890123456789",
		"12345678901234567890.123456789": "12345678901234567890.123456789", "100.250": "100.25", "0.1": "0.1",
		"0." + strings.Repeat("0", 300) + "1e301": "1", "1" + strings.Repeat("0", 300) + "e-300": "1",
		"1e20": "", "100000000000000000000": "", "-1e20": "", "1e400": "", "1e-10": "", "0.0000000001": "", "1.0000000001": "", "1e99999999999999999999": "", "1e-99999999999999999999": "",
		"": "", "-": "", "+1": "", "01": "", "-01": "", "00": "", "1.": "", ".5": "", "1e": "", "1e+": "", "1 ": "", " 1": "", "0x1": "", "1_000": "", "1,5": "", "NaN": "", "Infinity": "", "1.2.3": "", "1e1.5": "", "--1": "", "١": "",
	}
	for in, want := range tests {
		q, err := usage.ParseQuantity([]byte(in))
		if (err != nil) != (want == "") || err == nil && q.String() != want || err != nil && !errors.Is(err, usage.ErrQuantity) {
			t.Errorf("ParseQuantity(%.40q) = %s, %v; want %q", in, q, err, want)
		}
	}
}

func TestQuantityAgainstBig(t *testing.T) {
	billion := big.NewInt(1_000_000_000)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) usage.Quantity {
			sign := rapid.SampledFrom([]string{"", "-"}).Draw(t, name+" sign")
			whole := rapid.StringMatching(`0|[1-9][0-9]{0,19}`).Draw(t, name+" whole")
			frac := rapid.StringMatching(`(\.[0-9]{1,9})?`).Draw(t, name+" fraction")
			q, err := usage.ParseQuantity([]byte(sign + whole + frac))
			if err != nil {
				t.Fatalf("%s%s%s: %v", sign, whole, frac, err)
			}
			want, _ := new(big.Rat).SetString(sign + whole + frac)
			if got := new(big.Rat).SetFrac(q.Big(), billion); got.Cmp(want) != 0 {
				t.Fatalf("%s%s%s = %s", sign, whole, frac, got.FloatString(9))
			}
			return q
		}
		a, b := draw("a"), draw("b")
		if got, want := a.Add(b).Big(), new(big.Int).Add(a.Big(), b.Big()); got.Cmp(want) != 0 {
			t.Fatalf("%s + %s = %s billionths, want %s", a, b, got, want)
		}
		if got, want := a.Sub(b).Big(), new(big.Int).Sub(a.Big(), b.Big()); got.Cmp(want) != 0 {
			t.Fatalf("%s - %s = %s billionths, want %s", a, b, got, want)
		}
		if got, want := a.Cmp(b), a.Big().Cmp(b.Big()); got != want {
			t.Fatalf("Cmp(%s, %s) = %d", a, b, got)
		}
		sum := a.Add(b) // beyond the wire's limit a sum still prints exactly
		if got, ok := new(big.Rat).SetString(sum.String()); !ok || got.Cmp(new(big.Rat).SetFrac(sum.Big(), billion)) != 0 {
			t.Fatalf("%s billionths print as %s", sum.Big(), sum)
		}
	})
	smallest := usage.Quantity{Hi: -1 << 63}
	if got := smallest.String(); got != "-170141183460469231731687303715.884105728" {
		t.Errorf("-2^127 billionths print as %s", got)
	}
}

func TestInstant(t *testing.T) {
	tests := map[string]struct {
		want string
		err  error
	}{
		"2025-03-01T10:00:00Z":                {want: "2025-03-01T10:00:00Z"},
		"2025-03-01t10:00:00z":                {want: "2025-03-01T10:00:00Z"},
		"2025-01-31T20:30:00-05:00":           {want: "2025-02-01T01:30:00Z"},
		"2025-03-01T10:00:00-00:00":           {want: "2025-03-01T10:00:00Z"},
		"2025-03-01T10:00:00.120Z":            {want: "2025-03-01T10:00:00.12Z"},
		"2025-03-01T10:00:00.123456789Z":      {want: "2025-03-01T10:00:00.123456789Z"},
		"2025-03-01T10:00:00.12345678900000Z": {want: "2025-03-01T10:00:00.123456789Z"},
		"2024-02-29T00:00:00+14:00":           {want: "2024-02-28T10:00:00Z"},
		"2000-02-29T00:00:00Z":                {want: "2000-02-29T00:00:00Z"},
		"1970-01-01T00:00:00Z":                {want: "1970-01-01T00:00:00Z"},
		"1969-12-31T23:30:00-01:00":           {want: "1970-01-01T00:30:00Z"},
		"2199-12-31T23:59:59.999999999Z":      {want: "2199-12-31T23:59:59.999999999Z"},
		"1969-12-31T23:59:59.999999999Z":      {err: usage.ErrTimeRange},
		"1970-01-01T00:30:00+01:00":           {err: usage.ErrTimeRange},
		"2200-01-01T00:00:00Z":                {err: usage.ErrTimeRange},
		"0000-01-01T00:00:00Z":                {err: usage.ErrTimeRange},
		"9999-12-31T23:59:59Z":                {err: usage.ErrTimeRange},
		"2025-03-01T10:00:00":                 {err: usage.ErrNaiveTime},
		"2025-03-01T10:00:00.5":               {err: usage.ErrNaiveTime},
		"2025-03-01":                          {err: usage.ErrTime},
		"2025-03-01T10:00Z":                   {err: usage.ErrTime},
		"2025-03-01 10:00:00Z":                {err: usage.ErrTime},
		"2025-03-01T10:00:60Z":                {err: usage.ErrTime},
		"2025-03-01T24:00:00Z":                {err: usage.ErrTime},
		"2025-03-01T10:60:00Z":                {err: usage.ErrTime},
		"2025-02-29T00:00:00Z":                {err: usage.ErrTime},
		"2100-02-29T00:00:00Z":                {err: usage.ErrTime},
		"2025-04-31T00:00:00Z":                {err: usage.ErrTime},
		"2025-00-01T00:00:00Z":                {err: usage.ErrTime},
		"2025-01-00T00:00:00Z":                {err: usage.ErrTime},
		"2025-13-01T00:00:00Z":                {err: usage.ErrTime},
		"2025-03-01T10:00:00+24:00":           {err: usage.ErrTime},
		"2025-03-01T10:00:00+01":              {err: usage.ErrTime},
		"2025-03-01T10:00:00+0100":            {err: usage.ErrTime},
		"2025-03-01T10:00:00.Z":               {err: usage.ErrTime},
		"2025-03-01T10:00:00,5Z":              {err: usage.ErrTime},
		"2025-03-01T10:00:00.1234567891Z":     {err: usage.ErrTime},
		"2025-03-01T10:00:00ZZ":               {err: usage.ErrTime},
		"+2025-03-01T10:00:00Z":               {err: usage.ErrTime},
		"20250301T100000Z":                    {err: usage.ErrTime},
		"":                                    {err: usage.ErrTime},
		"2025-03-01T10:00:00[Europe/Berlin]":  {err: usage.ErrTime},
		"２０25-03-01T10:00:00Z":                {err: usage.ErrTime},
	}
	for in, tt := range tests {
		got, err := usage.ParseInstant(in)
		if !errors.Is(err, tt.err) || got.String() != tt.want {
			t.Errorf("ParseInstant(%q) = %s, %v; want %s, %v", in, got, err, tt.want, tt.err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Int64Range(0, 7_258_118_399_999_999_999).Draw(t, "ns")
		zone := time.FixedZone("", 60*rapid.IntRange(-23*60-59, 23*60+59).Draw(t, "offset"))
		want := time.Unix(0, ns)
		got, err := usage.ParseInstant(want.In(zone).Format(time.RFC3339Nano))
		if err != nil || got.Nanos() != ns || got.String() != want.UTC().Format(time.RFC3339Nano) {
			t.Fatalf("ParseInstant(%s) = %s, %v", want.In(zone).Format(time.RFC3339Nano), got, err)
		}
	})
}

func TestMonth(t *testing.T) {
	for in, want := range map[string]string{"2025-03": "2025-03", "1970-01": "1970-01", "2199-12": "2199-12", "2025-13": "", "2025-00": "", "2025-3": "", "1969-12": "", "2200-01": "", "": "", "2025/03": ""} {
		m, err := usage.ParseMonth(in)
		if (err == nil) != (want != "") || err == nil && m.String() != want {
			t.Errorf("ParseMonth(%q) = %s, %v", in, m, err)
		}
	}
	m, _ := usage.ParseMonth("2024-12")
	if got := fmt.Sprint(m.Start(), m.End(), m.Next(), m.Prev(), m.Next().Next().Prev().Compare(m)); got != "2024-12-01T00:00:00Z 2025-01-01T00:00:00Z 2025-01 2024-11 1" {
		t.Error(got)
	}
	rapid.Check(t, func(t *rapid.T) {
		i := usage.At(rapid.Int64Range(0, 7_258_118_399_999_999_999).Draw(t, "ns"))
		m := usage.MonthOf(i)
		if i.Before(m.Start()) || !i.Before(m.End()) || m.String() != i.Time().Format("2006-01") {
			t.Fatalf("%s is not in %s", i, m)
		}
	})
}

func TestWindow(t *testing.T) {
	now := instant(t, "2025-03-15T12:00:00Z")
	w := usage.Window{Past: 35 * 24 * time.Hour, Future: 5 * time.Minute}
	backfill := usage.Window{Future: 5 * time.Minute}
	span := func(start, end string) usage.Event {
		return usage.Event{Metered: &usage.Metered{Start: instant(t, start), End: instant(t, end)}}
	}
	at := func(s string) usage.Event { return usage.Event{Time: instant(t, s)} }
	tests := map[string]struct {
		e              usage.Event
		want, backfill string
	}{
		"no time":              {e: usage.Event{}},
		"now":                  {e: at("2025-03-15T12:00:00Z")},
		"exactly 35 days old":  {e: at("2025-02-08T12:00:00Z")},
		"36 days old":          {e: at("2025-02-07T12:00:00Z"), want: "/time time-window"},
		"55 years old":         {e: at("1970-01-01T00:00:00Z"), want: "/time time-window"},
		"4 minutes ahead (X8)": {e: at("2025-03-15T12:04:00Z")},
		"6 minutes ahead (X8)": {e: at("2025-03-15T12:06:00Z"), want: "/time time-window", backfill: "/time time-window"},
		"start too old":        {e: span("2025-02-01T00:00:00Z", "2025-03-01T00:00:00Z"), want: "/data/start time-window"},
		"end ahead":            {e: span("2025-03-01T00:00:00Z", "2025-03-16T00:00:00Z"), want: "/data/end time-window", backfill: "/data/end time-window"},
		"recorded long ago":    {e: usage.Event{RecordedTime: instant(t, "2020-01-01T00:00:00Z")}},
		"recorded tomorrow":    {e: usage.Event{RecordedTime: instant(t, "2025-03-16T00:00:00Z")}, want: "/recordedtime time-window", backfill: "/recordedtime time-window"},
	}
	for name, tt := range tests {
		if got := codes(w.Check(&tt.e, now)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		if got := codes(backfill.Check(&tt.e, now)); got != tt.backfill {
			t.Errorf("%s with backfill: %q, want %q", name, got, tt.backfill)
		}
	}
}
