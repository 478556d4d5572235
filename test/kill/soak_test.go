//go:build soak

package kill_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/oracle"
	"github.com/countinghouse/countinghouse/test/proxy"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	soakMinutesVariable = "COUNTINGHOUSE_SOAK_MINUTES"
	soakMinutes         = 30
	// A system is begun anew so often: the oracle remembers every event.
	soakLife   = 5 * time.Minute
	soakEvents = 4_000_000 // of one life, at most
	soakLoad   = 70        // percent of what the producers get through without a pause
	soakQuota  = 20_000    // events a second of a tenant: more than any of the load sends, less than noise does
)

// soakCaps is what the parts may hold (B).
var soakCaps = map[string]fight.Bound{
	"ingest":     {RSS: 512 << 20, Files: 500, Goroutines: 1000},
	"aggregator": {RSS: 512 << 20, Files: 200, Goroutines: 300},
	"nats":       {RSS: 1 << 30, Files: 500},
	"clickhouse": {RSS: 4 << 30, Files: 2000},
}

// soaking is one life of the soak.
type soaking struct {
	*fight.Fight
	warehouse *proxy.Proxy   // before ClickHouse
	toLog     *proxy.Proxy   // between ingest and NATS
	nats      []*proxy.Proxy // between each aggregator and NATS
	points    []string
	noises    uint64
	faults    map[string]int
}

// TestSoak lets every fault happen at random, for SOAK_MINUTES, to two aggregators and what they need, and
// asks the oracle at the end of every life.
func TestSoak(t *testing.T) {
	minutes := soakMinutes
	if n, err := strconv.Atoi(os.Getenv(soakMinutesVariable)); err == nil && n > 0 {
		minutes = n
	}
	if err := rig.CanTrace(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	end := begun.Add(time.Duration(minutes) * time.Minute)
	var total oracle.Result
	var worst time.Duration
	lives, kills, faults := 0, 0, map[string]int{}
	for time.Until(end) > 10*time.Second {
		lives++
		passed := t.Run(fmt.Sprintf("life %d", lives), func(t *testing.T) {
			s, result := soak(t, min(soakLife, time.Until(end)))
			total.Acked += result.Acked
			total.Stored += result.Stored
			total.Lost += result.Lost
			total.Doubled += result.Doubled
			kills += s.Kills()
			worst = max(worst, s.Worst)
			for name, n := range s.faults {
				faults[name] += n
			}
		})
		if !passed {
			return
		}
	}
	fmt.Printf("SOAK PASS minutes=%d lives=%d kills=%d acked=%d stored=%d lost=%d doubled=%d recover=%s %s\n", int(time.Since(begun).Minutes()), lives, kills,
		total.Acked, total.Stored, total.Lost, total.Doubled, worst.Round(time.Millisecond), counts(faults))
}

// soak is one life. Its seed is in its line.
func soak(t *testing.T, lasts time.Duration) (*soaking, oracle.Result) {
	s := beginSoak(t, rig.Options{})
	s.Limit(15 * time.Second)
	costs := s.Watch()
	end := time.Now().Add(lasts)
	s.pace(lasts)
	s.anyFaults(end)
	if above := costs.Above(soakCaps); len(above) > 0 {
		t.Errorf("LIFE seed=%d: %s", s.Seed, above)
	}
	s.Note += " " + costs.String() + " " + counts(s.faults)
	return s, s.End()
}

func beginSoak(t *testing.T, opts rig.Options) *soaking {
	s := &soaking{points: append(fight.AggregatorPoints(t), fight.CrashPoints(t, "ingest")...), faults: map[string]int{}}
	opts.Aggregators = []string{"one", "two"}
	opts.ClickHouseOfAggregator, opts.NATSOfIngest = proxy.Between(t, &s.warehouse), proxy.Between(t, &s.toLog)
	opts.NATSOfAggregator = proxy.BetweenEach(t, &s.nats)
	opts.IngestFlags = []string{"--limit-rate-events", strconv.Itoa(soakQuota)}
	s.Fight = fight.Begin(t, "LIFE", opts)
	return s
}

// anyFaults lets faults happen until end, and everything live again.
func (s *soaking) anyFaults(end time.Time) {
	s.T.Helper()
	for time.Now().Before(end) {
		s.Moment()
		s.anyFault()
		if s.Rnd.IntN(2) == 0 {
			s.Recovered()
		}
	}
	s.Recovered()
}

// TestSoakPlanted shows that the soak sees: with a bug planted, faults at random make its oracle say so.
func TestSoakPlanted(t *testing.T) {
	const (
		attempt  = 30 * time.Second
		attempts = 6
	)
	for _, p := range planted {
		if !p.soak {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			program, err := rig.Build(t.Context(), t.TempDir(), p.bugs...)
			if err != nil {
				t.Fatal(err)
			}
			s := beginSoak(t, rig.Options{Program: program, NoVoids: true})
			for n := range uint64(attempts) {
				s.anyFaults(time.Now().Add(attempt))
				if result := s.Settled(); result.Err() != nil {
					fmt.Printf("SOAK SEEN seed=%d %q lost=%d doubled=%d phantom=%d %s: %s\n", s.Seed, p.name, result.Lost, result.Doubled, result.Phantom,
						counts(s.faults), result.Violations[0])
					return
				}
				s.Load = s.Rig.StartLoad(s.Seed + n)
			}
			t.Fatalf("LIFE seed=%d: %s, and the oracle sees nothing after %s", s.Seed, p.name, attempts*attempt)
		})
	}
}

// pace sets the load to its share of what the producers get through without a pause.
func (s *soaking) pace(lasts time.Duration) {
	const measured = 4 * time.Second
	s.T.Helper()
	think := func(d time.Duration) (requests int64) {
		s.Load.Think(d)
		before := s.Load.Requests()
		s.While(measured)
		return s.Load.Requests() - before
	}
	most := think(0)
	if most == 0 {
		s.T.Fatalf("LIFE seed=%d: nothing is acknowledged\n%s", s.Seed, s.Rig.Logs())
	}
	const perRequest = 21                                     // events, on average
	service := measured * rig.Producers / time.Duration(most) // of one request
	pause := service * (100 - soakLoad) / soakLoad
	if cycle := lasts * rig.Producers * perRequest / soakEvents; service+pause < cycle {
		pause = cycle - service
	}
	got := think(pause)
	percent := 100 * got / most
	s.Note += fmt.Sprintf(" load=%d%%", percent)
	s.T.Logf("%d requests in %s without a pause, %d with one of %s: %d %%", most, measured, got, pause, percent)
}

// counts are how often each fault happened.
func counts(faults map[string]int) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		out = append(out, fmt.Sprintf("%s=%d", name, faults[name]))
	}
	return strings.Join(out, " ")
}
