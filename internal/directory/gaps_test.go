package directory_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/directory"
)

func minute(n int) string {
	return time.Date(2026, 3, 1, 0, n, 0, 0, time.UTC).Format(time.RFC3339)
}

func minuteMillis(n int) int64 { return time.Date(2026, 3, 1, 0, n, 0, 0, time.UTC).UnixMilli() }

// Random declarations and closings, about an account or about its source, against minutes that are marked one by one.
func TestGapsAgainstMinutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := []directory.Event{
			{Type: "account.created", Source: "s", ID: "0", Account: "a", Data: `{"name":"a","kind":"other"}`},
			{Type: "account.created", Source: "other", ID: "1", Account: "b", Data: `{"name":"b","kind":"other"}`},
		}
		var missing [30]bool
		for i := range rapid.IntRange(0, 12).Draw(t, "events") {
			from := rapid.IntRange(0, 28).Draw(t, "from")
			to := rapid.IntRange(from+1, 29).Draw(t, "to")
			e := directory.Event{
				Source: "s", ID: fmt.Sprint("gap-", i), Type: "ingest.gap_declared", At: int64(i + 1), RecordedAt: int64(i + 1),
				Account: rapid.SampledFrom([]string{"a", ""}).Draw(t, "account"),
				Data:    fmt.Sprintf(`{"from":%q,"to":%q,"reason":"x"}`, minute(from), minute(to)),
			}
			if rapid.Bool().Draw(t, "closed") {
				e.Type = "ingest.gap_closed"
			}
			for m := from; m < to; m++ {
				missing[m] = e.Type == "ingest.gap_declared"
			}
			events = append(events, e)
		}
		s := directory.Fold(rapid.Permutation(events).Draw(t, "order"), directory.Latest)
		for m, want := range missing {
			if got := s.MissingIn("a", minuteMillis(m), minuteMillis(m+1)); got != want {
				t.Fatalf("minute %d: missing %v, want %v; %v", m, got, want, s.Missing("a"))
			}
		}
		spans := s.Missing("a")
		for i, span := range spans {
			if span.From >= span.To || i > 0 && spans[i-1].To >= span.From {
				t.Fatalf("spans are not apart: %v", spans)
			}
		}
		if len(s.Missing("b")) > 0 {
			t.Fatalf("an account of another source: %v", s.Missing("b"))
		}
	})
}

// What is said in one instant is declared first and closed then, whatever the ids.
func TestGapClosedInTheSameInstant(t *testing.T) {
	data := fmt.Sprintf(`{"from":%q,"to":%q}`, minute(1), minute(2))
	s := directory.Fold([]directory.Event{
		{Type: "ingest.gap_closed", Source: "s", ID: "1", Account: "a", Data: data},
		{Type: "ingest.gap_declared", Source: "s", ID: "2", Account: "a", Data: data},
		{Type: "ingest.gap_declared", Source: "s", ID: "3", Data: data},
	}, directory.Latest)
	if got := s.Missing("a"); got != nil {
		t.Errorf("missing: %v", got)
	}
	gaps := s.Gaps(minuteMillis(0), minuteMillis(5))
	if want := []directory.Gap{{Source: "s", Span: directory.Span{From: minuteMillis(1), To: minuteMillis(2)}}}; !slices.Equal(gaps, want) {
		t.Errorf("gaps: %v, want %v", gaps, want)
	}
}

func TestEntitlements(t *testing.T) {
	set := func(at int64, id, data string) directory.Event {
		return directory.Event{Type: "entitlement.set", Source: "s", ID: fmt.Sprint(id, at), Account: "a", At: at, RecordedAt: at, Data: fmt.Sprintf(`{"entitlement_id":%q,%s}`, id, data)}
	}
	s := directory.Fold([]directory.Event{
		set(3, "e1", `"kind":"USERS","quantity":"10.5","sms_voice_credits":5,"start":"1970-01-01T00:00:01Z","status":"ACTIVE"`),
		set(9, "e1", `"kind":"USERS","quantity":"20","start":"1970-01-01T00:00:01Z","status":"INACTIVE"`),
		set(5, "e0", `"kind":"TRANSACTIONS","quantity":1,"bundles":["b","a"],"start":"1970-01-01T00:00:01Z","end":"1970-01-01T00:00:02Z"`),
	}, directory.Latest)
	text := func(at int64) (out string) {
		for _, e := range s.Entitlements("a", at) {
			out += fmt.Sprint(e.ID, " ", e.Users, " ", e.Quantity, " ", e.Credits, " ", e.Bundles, " ", e.InForce(999), e.InForce(1000), e.InForce(1999), e.InForce(2000), "; ")
		}
		return out
	}
	for at, want := range map[int64]string{
		2: "",
		3: "e1 true 10500000000 5000000000 [] false true true true; ",
		9: "e0 false 1000000000 0 [b a] false true true false; e1 true 20000000000 0 [] false false false false; ",
	} {
		if got := text(at); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
}
