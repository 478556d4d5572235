package abuse_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/oracle"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	quota      = 5000 // events a second; the load's tenants stay under it
	excess     = 50   // times the quota that the noisy tenant sends
	noisyBatch = 1000
	noisyHands = 16

	hasty = 25 * time.Millisecond // until somebody who was turned away asks again
)

// F23: a tenant at fifty times its quota is told so, keeps what it was promised, and others do not notice.
func TestF23NoisyTenant(t *testing.T) {
	f := fight.Begin(t, "F23", rig.Options{IngestFlags: patient("--limit-rate-events", strconv.Itoa(quota))})
	hands := make([]*sender, noisyHands)
	for i := range hands {
		hands[i] = newSender(f, "noisy", fmt.Sprintf("/noisy/%d", i))
	}
	lasting := time.Duration(fight.Rounds(2, 60)) * time.Second
	quiet := f.Normal()
	f.Load.Mark()
	begun := time.Now()
	tried, taken, refused := shout(f, hands, lasting)
	took := time.Since(begun)
	tally := f.Load.Tally()
	f.Unaffected(quiet, f.Load.Latencies(), 150)
	f.Note += fmt.Sprintf(" tried=%d×quota accepted=%d refused=%d", tried*int(time.Second)/int(took)/quota, taken, refused)
	if !tally.Only("202", "none") {
		t.Errorf("%s seed=%d: others were answered %s", f.Name, f.Seed, tally)
	}
	if most := quota * (int(took/time.Second) + 2); taken > most || taken == 0 || refused == 0 {
		t.Errorf("%s seed=%d: %d events taken in %s, at most %d allowed; %d requests refused", f.Name, f.Seed, taken, took, most, refused)
	}
	f.End()
}

// shout sends requests at the excess for a while, whatever is answered: for longer on a machine so slow that nobody has
// been told yet that it is too much.
func shout(f *fight.Fight, hands []*sender, lasting time.Duration) (tried, taken, refused int) {
	var mu sync.Mutex
	begun := time.Now()
	enough := func() bool {
		mu.Lock()
		defer mu.Unlock()
		took := time.Since(begun)
		return took >= rig.SettleWait || took >= lasting && taken > 0 && refused > 0
	}
	var running sync.WaitGroup
	ticks := make(chan struct{})
	for _, s := range hands {
		running.Go(func() {
			var body []byte
			var sent []oracle.Item
			for range ticks {
				if body == nil { // made once, however often it is sent: the noise must not be this process's own
					events := s.events(noisyBatch)
					body, sent = batch(events), items(oracle.Original, events)
					f.Load.Oracle().Sending(sent)
				}
				a := s.post(f.T.Context(), body)
				mu.Lock()
				tried += noisyBatch
				switch a.status {
				case http.StatusAccepted:
					taken += noisyBatch
					f.Load.Oracle().Acked(sent)
					body = nil
				case http.StatusTooManyRequests:
					refused++
				}
				mu.Unlock()
				if fault := polite(&a); fault != "" {
					f.T.Errorf("%s seed=%d: %s: %s %v", f.Name, f.Seed, fault, &a, a.header)
				}
			}
		})
	}
	tick := time.NewTicker(time.Second * noisyBatch / (quota * excess))
	defer tick.Stop()
	for !enough() {
		<-tick.C
		ticks <- struct{}{} // a hand is free once its request is answered
	}
	close(ticks)
	running.Wait()
	return tried, taken, refused
}

// polite names what an answer to somebody who sends too much lacks.
func polite(a *answer) string {
	switch {
	case a.status == http.StatusAccepted:
		return ""
	case a.status != http.StatusTooManyRequests || a.code != "rate-limited" && a.code != "too-many-requests":
		return "neither taken nor told that it is too much"
	}
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 {
		return "no Retry-After"
	}
	policy, left := strings.Join(a.header["Ratelimit-Policy"], ""), strings.Join(a.header["Ratelimit"], "")
	if !strings.Contains(policy, ";q=") || !strings.Contains(left, ";r=") {
		return "no RateLimit fields"
	}
	return ""
}

// F23, the other side: questions that take more than their share.
func TestF23ExpensiveQuestions(t *testing.T) {
	f := fight.Begin(t, "F23q", rig.Options{})
	_, at := f.Rig.StartReporter("--http-tenant-requests", "2", "--limit-query-memory", "33554432")
	_, brief := f.Rig.StartReporter("--limit-query-time", "1ms")
	greedy, modest := newSender(f, "greedy", "/greedy"), newSender(f, "modest", "/modest")
	crowd(f, greedy.tenant, fight.Rounds(300_000, 2_000_000), 1)
	crowd(f, modest.tenant, 100, 1)
	expensive := asked(at, "from", "1999-01-01T00:00:00Z", "to", "2004-01-01T00:00:00Z", "group_by", "plan,region,platform,trial", "window", "hour")
	small := asked(at, "window", "day")
	alone := modest.get(t.Context(), small)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	codes := map[string]int{}
	var running sync.WaitGroup
	for range 6 {
		running.Go(func() {
			for ctx.Err() == nil {
				a := greedy.get(context.WithoutCancel(ctx), expensive)
				mu.Lock()
				codes[a.code]++
				mu.Unlock()
				if a.code != "too-expensive" && polite(&a) != "" {
					t.Errorf("%s seed=%d: an expensive question: %s %s", f.Name, f.Seed, polite(&a), &a)
				}
				if a.status == http.StatusTooManyRequests {
					f.While(hasty) // far sooner than it was told to, but not all that a processor can
				}
			}
		})
	}
	f.Rig.Until("questions were ended and turned away", rig.SettleWait, func(context.Context) bool {
		mu.Lock()
		defer mu.Unlock()
		return codes["too-expensive"] > 0 && codes["too-many-requests"] > 0
	})
	var others []time.Duration
	for range fight.Rounds(10, 200) {
		a := modest.get(t.Context(), small)
		others = append(others, a.took)
		if a.status != http.StatusOK {
			t.Errorf("%s seed=%d: another tenant's small question: %s", f.Name, f.Seed, &a)
		}
	}
	cancel()
	running.Wait()
	late := greedy.get(t.Context(), strings.Replace(expensive, at, brief, 1))
	if late.code != "too-expensive" || !strings.Contains(string(late.body), "longer than 1ms") {
		t.Errorf("%s seed=%d: a question that takes too long: %s", f.Name, f.Seed, &late)
	}
	worst := others[0]
	for _, o := range others {
		worst = max(worst, o)
	}
	f.Note = fmt.Sprintf(" ended=%d turned-away=%d others=%s alone=%s", codes["too-expensive"], codes["too-many-requests"], worst.Round(time.Millisecond), alone.took.Round(time.Millisecond))
	disperse(f)
	f.End()
}
