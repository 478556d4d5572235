package months_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/report"
)

// Whoever asks for a close has in it what the log held then: counted only later, and counted before the log's clock has
// passed it. Asked again, it is the same for a version that follows.
func TestHasWhatTheLogHeld(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.add("2026-01-10T00:00:00Z", tokens("1", "a", "2026-01-10T00:00:00Z", "1"))
	h.add("2026-02-03T00:00:00Z", tokens("2", "a", "2026-02-03T00:00:00Z", "1"))
	k, _, _ := h.keeper("1", byHand())
	for i, want := range []string{"3", "7"} { // with what is late
		asked := h.asked.Load()
		h.head.Store(h.world.Seq() + 1)
		answer := make(chan report.Version, 1)
		failed := make(chan error, 1)
		go func() {
			v, err := k.Close(t.Context(), months.Request{Tenant: h.tenant, Month: month(t, "2026-01"), By: "test"})
			answer <- v
			failed <- err
		}()
		h.await("the log to be asked", func() bool { return h.asked.Load() > asked })
		day := []string{"2026-02-05", "2026-02-06"}[i]
		h.add(day+"T00:00:00Z", tokens([]string{"3", "4"}[i], "a", "2026-01-20T00:00:00Z", []string{"2", "4"}[i]))
		select {
		case v := <-answer:
			t.Fatalf("closed before the log's clock has passed what it held: %+v, %v", v, <-failed)
		default:
		}
		h.add(day+"T00:00:01Z", tokens([]string{"5", "6"}[i], "a", day+"T00:00:00Z", "1"))
		v, err := <-answer, <-failed
		if err != nil || v.Version != i+1 {
			t.Fatalf("close %d: %+v, %v", i+1, v, err)
		}
		if rows := h.rows("2026-01", v.CloseID); len(rows) != 1 || rows[0].Quantity != want {
			t.Errorf("version %d has %+v, want %s tokens", v.Version, rows, want)
		}
	}
}

// A log that is not counted in time refuses who asks, says how far it is, and stores nothing. What closes by itself, and as
// of an instant, asks for nothing newer.
func TestLogIsBehind(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.add("2026-01-10T00:00:00Z", tokens("1", "a", "2026-01-10T00:00:00Z", "1"))
	h.add("2026-02-03T00:00:00Z", tokens("2", "a", "2026-02-03T00:00:00Z", "1"))
	h.head.Store(h.world.Seq() + 5)
	cfg := byHand()
	cfg.SettleWait = 300 * time.Millisecond
	k, _, _ := h.keeper("1", cfg)
	q := months.Request{Tenant: h.tenant, Month: month(t, "2026-01"), By: "test"}
	_, err := k.Close(t.Context(), q)
	var refused *months.Refused
	if !errors.As(err, &refused) || len(refused.Checks) != 1 || refused.Checks[0].Check != months.CheckLag || !strings.Contains(err.Error(), "partition 0 up to 2 of 7, after 300ms") {
		t.Errorf("a close of what is not counted: %v", err)
	}
	h.head.Store(silent)
	if _, err = k.Close(t.Context(), q); !errors.As(err, &refused) || !strings.Contains(err.Error(), "the log does not say how far it goes") {
		t.Errorf("a close while the log is silent: %v", err)
	}
	if n := h.count("month_rows"); n != 0 {
		t.Errorf("%d rows are stored of a close that was refused", n)
	}
	q.AsOf = ms(t, "2026-02-02T00:00:00Z")
	if v, err := k.Close(t.Context(), q); err != nil || v.Version != 1 {
		t.Errorf("as of an instant that is settled: %+v, %v", v, err)
	}
	h.add("2026-02-06T00:00:00Z", tokens("3", "a", "2026-01-11T00:00:00Z", "1"))
	h.add("2026-02-06T00:00:01Z", tokens("4", "a", "2026-02-06T00:00:00Z", "1"))
	q.AsOf, q.By = 0, months.Automatic
	if v, err := k.Close(t.Context(), q); err != nil || v.Version != 2 {
		t.Errorf("by itself: %+v, %v", v, err)
	}
}
