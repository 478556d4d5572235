package demo

import (
	"fmt"
	"math/rand/v2"
	"time"
)

type meter struct {
	name, unit, element, aggregation, kind, service, plan string
}

func meters() []meter {
	return []meter{
		{"tokens", "token", "AI tokens", "sum", "usage", "cloud", ""},
		{"api_calls", "call", "API calls", "sum", "usage", "cloud", ""},
		{"storage_gib", "GiB", "Storage", "max", "usage", "cloud", ""},
		{"machines", "machine hour", "Machines deployed", "time_weighted", "usage", "cloud", ""},
		{"callers", "caller", "Different callers", "unique", "usage", "cloud", ""},
		{"user_hours_essentials", "hour", "User hours", "sum", "secure_connect", "secure-connect", "essentials"},
		{"tenant_hours_essentials", "hour", "Tenant hours", "sum", "secure_connect", "secure-connect", "essentials"},
		{"transport_hours_essentials", "hour", "Transport hours", "sum", "secure_connect", "secure-connect", "essentials"},
		{"bandwidth_gib_essentials", "GiB", "Bandwidth", "sum", "secure_connect", "secure-connect", "essentials"},
		{"user_hours_advanced", "hour", "User hours", "sum", "secure_connect", "secure-connect", "advanced"},
	}
}

func (s *stage) meters() {
	for i, m := range meters() {
		data := fields{
			"meter": m.name, "meter_id": fmt.Sprintf("6d0e7c51-0000-4000-8000-%012d", i+1), "element": m.element, "unit": m.unit,
			"aggregation": m.aggregation, "scale": 6, "kind": m.kind, "service": m.service,
		}
		if m.plan != "" {
			data["plan"] = m.plan
		}
		s.say(fromDirectory, "meter:"+m.name, "meter.defined", "", s.today, data)
	}
}

// cloud is the metered usage of whoever buys computing.
func (s *stage) cloud() {
	regions := []string{"eu-central", "us-east", "ap-south"}
	for _, a := range accounts() {
		if a.busy == 0 {
			continue
		}
		r := s.chance("cloud " + a.id)
		many := 2 + r.IntN(3*a.busy)
		if !s.weekend() {
			many += 3 * a.busy
		}
		for n := range many {
			at := s.at(r.IntN(24), r.IntN(60)).Add(time.Duration(r.IntN(60_000)) * time.Millisecond)
			data := fields{"region": regions[r.IntN(len(regions))], "dimensions": fields{"route": "/v1/" + []string{"chat", "search", "images"}[r.IntN(3)]}}
			cloudUse(r, a, data)
			s.say(fromCloud, fmt.Sprintf("%s:%s:%d", a.id, date(s.today), n), "usage.metered", a.id, at, data)
		}
	}
}

func cloudUse(r *rand.Rand, a account, data fields) {
	switch r.IntN(10) {
	case 0:
		data["meter"], data["quantity"], data["unit"] = "storage_gib", thousandths(100_000*a.busy+r.IntN(9_000_000)), "GiB"
	case 1:
		data["meter"], data["quantity"], data["unit"] = "machines", number(1+r.IntN(3*a.busy)), "machine hour"
	case 2:
		data["meter"], data["quantity"], data["unit"] = "callers", "1", "caller"
		data["consumer"] = fields{"type": "service", "id": fmt.Sprintf("%s-svc-%d", a.id, r.IntN(12))}
	case 3, 4, 5:
		data["meter"], data["quantity"], data["unit"] = "api_calls", number(1+r.IntN(300)), "call"
	default:
		data["meter"], data["quantity"], data["unit"] = "tokens", number(1+r.IntN(4000)), "token"
	}
}
