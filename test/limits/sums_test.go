package limits_test

import (
	"bytes"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	largest = "99999999999999999999.999999999" // the largest magnitude that ingest takes: 1e20 - 1e-9
	nine    = "0.123456789"
	batch   = 1000
	senders = 4
)

// series are events of one meter, all alike but for their sign.
type series struct {
	meter    string
	quantity string
	count    int
	signs    bool // every second one is negative
}

// sum is what they add up to.
func (s series) sum() *big.Rat {
	if s.signs {
		return new(big.Rat)
	}
	q, _ := new(big.Rat).SetString(s.quantity)
	return q.Mul(q, new(big.Rat).SetInt64(int64(s.count)))
}

// TestF30Sums: sums that leave 64 and 128 bits of billionths, sums that cancel to zero, and very many with nine
// fractional digits are what big.Rat says, to the last digit, in every view and in the reporter's answer.
func TestF30Sums(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	extremes := fight.Rounds(20_000, 100_000)
	all := []series{
		{"largest", largest, extremes, false},
		{"lowest", "-" + largest, extremes, false},
		{"cancelled", largest, extremes, true},
		{"nine", nine, fight.Rounds(20_000, 10_000_000), false},
	}
	r := rig.Start(t, rig.Options{Program: fight.Program(), BatchRows: 100_000, FlushWait: 250 * time.Millisecond})
	at := time.Now().UTC().Add(-time.Hour).Truncate(time.Second)
	events := 0
	for _, s := range all {
		send(t, r, s, at)
		events += s.count
	}
	r.Settle()
	sent := time.Since(begun)
	_, address := r.StartReporter()
	token := r.Key("acme", "usage:read")
	month := at.Format("2006-01")
	for _, s := range all {
		want := s.sum()
		for view, where := range map[string]string{
			"usage_hourly_v1": "", "usage_daily_v1": "", "usage_monthly_v1": " AND month = '" + month + "'",
		} {
			same(t, view+" "+s.meter, one(t, r, "SELECT toString(sum(quantity)), sum(events) FROM usage_api."+view+" WHERE meter = '"+s.meter+"'"+where), want, s.count)
		}
		same(t, "tree "+s.meter, one(t, r, "SELECT toString(quantity_tree), events_tree FROM usage_api.usage_monthly_v1 WHERE meter = '"+s.meter+"'"), want, s.count)
		var page struct {
			Rows []struct {
				Quantity string `json:"quantity"`
				Events   int    `json:"events"`
			} `json:"rows"`
		}
		get(t, address, "/months/"+month+"/usage?meter="+url.QueryEscape(s.meter), token, &page)
		if len(page.Rows) != 1 {
			t.Errorf("the reporter has %d rows of %s", len(page.Rows), s.meter)
			continue
		}
		same(t, "reporter "+s.meter, []string{page.Rows[0].Quantity, fmt.Sprint(page.Rows[0].Events)}, want, s.count)
	}
	for _, quantity := range []string{"100000000000000000000", "-1e20", "1e400", "0.0000000001", "NaN"} {
		status, p := judged(t, r, body(series{"beyond", quantity, 1, false}, 0, 1, at))
		if status != http.StatusUnprocessableEntity || !strings.Contains(strings.Join(p.codes(), " "), "bad-quantity") {
			t.Errorf("%s: %d %v, want 422 bad-quantity", quantity, status, p.codes())
		}
	}
	if !t.Failed() {
		fmt.Printf("F30 PASS seed=0 acked=%d stored=%d sums=%d wrong=0 sent=%s all=%s\n", events, events, len(all)*5, sent.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
	}
}

func body(s series, from, to int, at time.Time) []byte {
	var b bytes.Buffer
	for i := from; i < to; i++ {
		sign, separator := "", ","
		if s.signs && i%2 == 1 {
			sign = "-"
		}
		if i == from {
			separator = "["
		}
		fmt.Fprintf(&b, `%s{"specversion":"1.0","type":"usage.metered","source":"/f30/%s","id":"%d","subject":"a","time":"%s","data":{"meter":%q,"quantity":"%s%s"}}`,
			separator, s.meter, i, at.Format(time.RFC3339), s.meter, sign, s.quantity)
	}
	b.WriteByte(']')
	return b.Bytes()
}

// send posts a series, from several senders at once; a refusal is tried again for as long as the rig is patient.
func send(t *testing.T, r *rig.Rig, s series, at time.Time) {
	t.Helper()
	froms := make(chan int)
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for from := range froms {
				text := body(s, from, min(from+batch, s.count), at)
				deadline := time.Now().Add(rig.SettleWait)
				for {
					status, p := post(t, http.DefaultClient, r.URL(), r.Token("acme"), text)
					if status == http.StatusAccepted {
						break
					}
					if status < 500 && status != http.StatusTooManyRequests || time.Now().After(deadline) {
						t.Errorf("%s %d: %d %v", s.meter, from, status, p.codes())
						break
					}
				}
			}
		})
	}
	for from := 0; from < s.count; from += batch {
		froms <- from
	}
	close(froms)
	sending.Wait()
}

func one(t *testing.T, r *rig.Rig, sql string) []string {
	t.Helper()
	rows, err := r.Warehouse().Rows(t.Context(), sql)
	if err != nil || len(rows) != 1 {
		t.Fatalf("%s: %d rows, %v", sql, len(rows), err)
	}
	return rows[0]
}

func same(t *testing.T, what string, have []string, want *big.Rat, events int) {
	t.Helper()
	q, ok := new(big.Rat).SetString(have[0])
	if !ok || q.Cmp(want) != 0 || have[1] != fmt.Sprint(events) {
		t.Errorf("%s: %s of %s events, want %s of %d", what, have[0], have[1], want.FloatString(9), events)
	}
}
