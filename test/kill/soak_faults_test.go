//go:build soak

package kill_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/proxy"
	"github.com/countinghouse/countinghouse/test/rig"
)

// anyFault does one thing that may happen at any time.
func (s *soaking) anyFault() {
	s.T.Helper()
	faults := []struct {
		name   string
		weight int
		do     func()
	}{
		{"kill", 4, s.kill},                // rows 1, 2, 3, 9
		{"kill-two", 1, s.killTwo},         //
		{"kill-all", 1, s.killAll},         // the machine's power
		{"crash-point", 2, s.crashPoint},   // rows 1, 2
		{"freeze", 2, s.freeze},            // rows 10, 12
		{"black-hole", 1, s.blackHole},     // row 10
		{"cut-insert", 3, s.cutInsert},     // row 11
		{"late-insert", 1, s.lateInsert},   // row 12
		{"inside-clickhouse", 2, s.inside}, // row 13
		{"slow-clickhouse", 1, s.slow},     // row 14
		{"one-way", 2, s.oneWay},           // row 15
		{"noise", 1, s.noise},              // row 23
	}
	sum := 0
	for _, fault := range faults {
		sum += fault.weight
	}
	n := s.Rnd.IntN(sum)
	for _, fault := range faults {
		if n -= fault.weight; n < 0 {
			s.T.Logf("%s", fault.name)
			s.faults[fault.name]++
			fault.do()
			return
		}
	}
}

func (s *soaking) part() *rig.Part { return s.Parts()[s.Rnd.IntN(len(s.Parts()))] }

// some is a time of some seconds: past leases and most time-outs.
func (s *soaking) some() time.Duration { return time.Duration(1+s.Rnd.IntN(8)) * time.Second }

func (s *soaking) kill() {
	part := s.part()
	s.T.Logf("kill %s", part.Name)
	part.Kill()
}

func (s *soaking) killTwo() {
	a, b := s.part(), s.part()
	s.T.Logf("kill %s and %s", a.Name, b.Name)
	a.Kill()
	b.Kill()
}

func (s *soaking) killAll() {
	for _, p := range s.Parts() {
		p.Kill()
	}
}

func (s *soaking) freeze() {
	part := s.part()
	s.T.Logf("freeze %s", part.Name)
	part.Freeze()
	s.While(s.some())
	part.Thaw()
}

// crashPoint lets a part that has one die there.
func (s *soaking) crashPoint() {
	at := fmt.Sprintf("%s:%d", s.points[s.Rnd.IntN(len(s.points))], 1+s.Rnd.IntN(8))
	part := s.Rig.Ingest
	if !strings.HasPrefix(at, "ingest/") {
		part = s.Rig.Aggregators[s.Rnd.IntN(len(s.Rig.Aggregators))]
	}
	s.T.Logf("%s dies at %s", part.Name, at)
	part.Arm(faultpoint.Variable + "=" + at)
	part.Kill()
}

func (s *soaking) inside() {
	calls := []string{"rename,renameat,renameat2", "rename,renameat,renameat2", "fsync,fdatasync", "write,pwrite64", "unlink,unlinkat"}[s.Rnd.IntN(5)]
	diesInside(s.Fight, calls, 1+s.Rnd.IntN(5), lifeInside)
}

// blackHole lies before ClickHouse; what was sent into it is lost, or arrives afterwards.
func (s *soaking) blackHole() {
	if s.Rnd.IntN(2) == 0 {
		s.warehouse.BlackHole(true)
		s.While(s.some())
		s.heal(s.warehouse)
		s.warehouse.Reset()
		return
	}
	s.warehouse.Hold(proxy.ToServer, true)
	s.warehouse.Hold(proxy.ToClient, true)
	s.While(s.some())
	s.heal(s.warehouse)
}

// oneWay is a break between ingest and NATS in one direction; connections may have to be given up after it.
func (s *soaking) oneWay() {
	d := []proxy.Direction{proxy.ToServer, proxy.ToClient}[s.Rnd.IntN(2)]
	if s.Rnd.IntN(2) == 0 {
		s.toLog.Hold(d, true)
	} else {
		s.toLog.Swallow(d, true)
	}
	s.While(s.some())
	s.heal(s.toLog)
}

func (s *soaking) heal(p *proxy.Proxy) {
	s.T.Helper()
	if err := p.Heal(); err != nil {
		s.T.Fatal(err)
	}
}

func (s *soaking) cutInsert() {
	table := []string{"events", "usage_hourly", "usage_monthly", "pieces", "ledger"}[s.Rnd.IntN(5)]
	at := fight.Place{Direction: []proxy.Direction{proxy.ToServer, proxy.ToClient}[s.Rnd.IntN(2)], FromEnd: s.Rnd.IntN(2) == 0, Bytes: s.Rnd.Int64N(50)}
	s.CutNext(s.warehouse, table, at, []proxy.End{proxy.Reset, proxy.Close}[s.Rnd.IntN(2)])
}

// lateInsert needs two aggregators that live.
func (s *soaking) lateInsert() {
	s.Recovered()
	s.LateInsert([]string{"ledger", "events", "usage_hourly", "usage_monthly"}[s.Rnd.IntN(4)], s.warehouse, s.nats)
}

func (s *soaking) slow() {
	s.warehouse.Latency(proxy.ToClient, time.Duration(1+s.Rnd.IntN(1000))*time.Millisecond)
	s.While(s.some())
	s.warehouse.Latency(proxy.ToClient, 0)
}

// noise is a tenant that sends as much as it can and is refused what is above its quota.
func (s *soaking) noise() {
	s.T.Helper()
	s.noises++
	noise := s.Rig.StartNoise(s.Seed+s.noises, "noisy")
	s.While(s.some() / 2)
	if err := noise.Stop(); err != nil {
		s.T.Fatalf("LIFE seed=%d: noise: %v", s.Seed, err)
	}
}
