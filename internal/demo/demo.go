// Package demo makes sample data: a small cloud provider with customers, plans and meters, and a month
// of usage up to now.
//
// Guarantee: the events are a pure function of the day the demo began and the hour each is about, so
// sending them again, on a later day or after a restart, only adds what is new since. They go in over
// HTTP like any producer's.
package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/countinghouse/countinghouse/internal/client"
)

// Days of usage before the first start: inside the 35 days that ingest takes without a special scope.
const Days = 33

const (
	source     = "demo"
	batchMax   = 500
	seed       = 20260101
	hourEvents = 9 // most events an account has in an hour
)

// Sender posts a JSON array of events.
type Sender interface {
	SendEvents(ctx context.Context, batch []byte) (client.Receipt, error)
}

type event struct {
	SpecVersion string `json:"specversion"`
	ID          string `json:"id"`
	Source      string `json:"source"`
	Type        string `json:"type"`
	Subject     string `json:"subject,omitempty"`
	Time        string `json:"time"`
	Data        any    `json:"data"`
}

type fields map[string]any

// account of the demo: a provider, a reseller below it, and customers below those.
type account struct {
	id, name, kind, parent, plan string
	weight                       int // how busy it is
}

func accounts() []account {
	return []account{
		{"northwind", "Northwind Cloud", "provider", "", "", 0},
		{"harbor", "Harbor Reselling", "reseller", "northwind", "Gold", 0},
		{"acme", "Acme Rockets", "customer", "northwind", "Gold", 5},
		{"globex", "Globex", "customer", "northwind", "Silver", 3},
		{"initech", "Initech", "customer", "harbor", "Silver", 2},
		{"umbra", "Umbra Labs", "customer", "harbor", "Bronze", 1},
	}
}

type meter struct {
	name, unit, element string
	quantity            func(*rand.Rand) string
}

func meters() []meter {
	whole := func(most int) func(*rand.Rand) string {
		return func(r *rand.Rand) string { return strconv.Itoa(1 + r.IntN(most)) }
	}
	return []meter{
		{"tokens", "token", "AI tokens", whole(4000)},
		{"api_calls", "call", "API calls", whole(300)},
		{"bandwidth_gib", "GiB", "Bandwidth", func(r *rand.Rand) string {
			return fmt.Sprintf("%d.%06d", r.IntN(4), r.IntN(1_000_000)) // exact, never through a float
		}},
		{"sms_credits", "credit", "SMS credits", whole(12)},
	}
}

// Events calls each for every event of a demo that began on a day, up to now, in batches of a JSON array.
func Events(began, now time.Time, each func(batch []byte, events int) error) error {
	p := packer{each: each}
	began = began.UTC().Truncate(24 * time.Hour)
	if err := directory(began, &p); err != nil {
		return err
	}
	for hour := began; hour.Add(time.Hour).Before(now); hour = hour.Add(time.Hour) {
		if err := usage(hour, began, &p); err != nil {
			return err
		}
	}
	return p.flush()
}

// directory defines meters and accounts, and changes one plan in the middle of a day.
func directory(began time.Time, p *packer) error {
	at := func(d time.Duration) string { return began.Add(d).Format(time.RFC3339) }
	for _, m := range meters() {
		if err := p.add(event{
			ID: "meter:" + m.name, Type: "meter.defined", Time: at(0),
			Data: fields{"meter": m.name, "meter_id": "demo-" + m.name, "element": m.element, "unit": m.unit, "aggregation": "sum", "scale": 6, "kind": "usage", "service": "cloud"},
		}); err != nil {
			return err
		}
	}
	for _, a := range accounts() {
		data := fields{"name": a.name, "kind": a.kind}
		if a.parent != "" {
			data["parent_account_id"] = a.parent
		}
		if err := p.add(event{ID: "account:" + a.id, Type: "account.created", Subject: a.id, Time: at(0), Data: data}); err != nil {
			return err
		}
		if a.plan == "" {
			continue
		}
		if err := p.add(event{
			ID: "plan:" + a.id, Type: "service.plan_set", Subject: a.id, Time: at(0), Data: fields{"service": "cloud", "plan": a.plan},
		}); err != nil {
			return err
		}
	}
	return p.add(event{ // usage before and after this instant is on different plans
		ID: "plan:globex:upgrade", Type: "service.plan_set", Subject: "globex", Time: at(12*24*time.Hour + 12*time.Hour + 20*time.Minute),
		Data: fields{"service": "cloud", "plan": "Gold"},
	})
}

func usage(hour, began time.Time, p *packer) error {
	h := uint64(hour.Sub(began) / time.Hour)
	all := meters()
	regions := []string{"eu-central", "us-east", "ap-south"}
	for i, a := range accounts() {
		if a.weight == 0 {
			continue
		}
		r := rand.New(rand.NewPCG(seed+uint64(i), h)) // one stream an account and hour: nothing else moves it
		busy := a.weight
		if hour.Hour() >= 8 && hour.Hour() < 18 && hour.Weekday() != time.Saturday && hour.Weekday() != time.Sunday {
			busy *= 2
		}
		for n := range r.IntN(min(busy, hourEvents) + 1) {
			m := all[r.IntN(len(all))]
			at := hour.Add(time.Duration(r.Int64N(int64(time.Hour)))).Truncate(time.Millisecond)
			if err := p.add(event{
				ID: fmt.Sprintf("%s:%s:%d", a.id, hour.Format("2006010215"), n), Type: "usage.metered", Subject: a.id, Time: at.Format(time.RFC3339Nano),
				Data: fields{
					"meter": m.name, "quantity": m.quantity(r), "unit": m.unit, "region": regions[r.IntN(len(regions))],
					"dimensions": fields{"route": "/v1/" + m.name},
				},
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

type packer struct {
	each func([]byte, int) error
	body []byte
	n    int
}

func (p *packer) add(e event) error {
	e.SpecVersion, e.Source = "1.0", source
	doc, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode demo event: %w", err)
	}
	if p.n == 0 {
		p.body = append(p.body, '[')
	} else {
		p.body = append(p.body, ',')
	}
	p.body = append(p.body, doc...)
	if p.n++; p.n >= batchMax {
		return p.flush()
	}
	return nil
}

func (p *packer) flush() error {
	if p.n == 0 {
		return nil
	}
	body, n := append(p.body, ']'), p.n
	p.body, p.n = nil, 0
	return p.each(body, n)
}

// Send sends the demo and says how many events ingest took.
func Send(ctx context.Context, to Sender, began, now time.Time) (int, error) {
	sent := 0
	err := Events(began, now, func(batch []byte, n int) error {
		r, err := to.SendEvents(ctx, batch)
		if err != nil {
			return fmt.Errorf("send sample data: %w", err)
		}
		if r.Accepted != n {
			return fmt.Errorf("send sample data: %d of %d events refused: %+v", n-r.Accepted, n, r.Errors)
		}
		sent += n
		return nil
	})
	return sent, err
}
