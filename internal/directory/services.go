package directory

import (
	"slices"
	"strings"
)

// service is what an account has of a service, from the first word about it on.
type service struct {
	name  string
	steps []serviceStep
}

type serviceStep struct {
	at           int64
	plan, status string
	start, until int64 // of the service period
}

// at is what holds at the instant; the zero step before the first.
func (v *service) at(at int64) serviceStep {
	n := upTo(v.steps, at, func(p *serviceStep) int64 { return p.at })
	if n == 0 {
		return serviceStep{}
	}
	return v.steps[n-1]
}

// turn is the step from the instant on, as a copy of the last.
func (v *service) turn(at int64) *serviceStep {
	next := serviceStep{}
	if n := len(v.steps); n > 0 {
		next = v.steps[n-1]
		if next.at == at {
			return &v.steps[n-1]
		}
	}
	next.at = at
	v.steps = append(v.steps, next)
	return &v.steps[len(v.steps)-1]
}

// end lets go of plan, status and period.
func (v *service) end(at int64) { *v.turn(at) = serviceStep{at: at} }

func (a *account) service(name string) *service {
	i, found := slices.BinarySearchFunc(a.services, name, func(v service, name string) int { return strings.Compare(v.name, name) })
	if !found {
		a.services = slices.Insert(a.services, i, service{name: name})
	}
	return &a.services[i]
}

// serve is what an event says about a service, from the instant on: its own, or the account's creation.
func (s *State) serve(a *account, e *parsed, d *data, at int64) {
	if !a.living {
		s.refuse(e, ruleAccountDeleted, quoted("account %s was deleted at ", a.id)+instantText(a.now().at))
		return
	}
	switch e.Type {
	case "service.plan_set":
		if d.service == serviceSTA {
			if rule, detail := s.mayPlan(a, d.plan); rule != "" {
				s.refuse(e, rule, detail)
				return
			}
			a.grade(rankOf(d.plan))
		}
		a.service(d.service).turn(at).plan = d.plan
	case "service.status_set":
		a.service(d.service).turn(at).status = d.status
	case "service.period_set":
		step := a.service(d.service).turn(at)
		step.start, step.until = instantOf(d.start), instantOf(d.end)
	}
}

// mayPlan judges a plan of the service sta.
func (s *State) mayPlan(a *account, plan string) (rule, detail string) {
	rank := rankOf(plan)
	if rank == 0 {
		return ruleUnknownPlan, quoted("%s is no plan of the service sta, which has ", plan) + strings.Join(STAPlans(), ", ")
	}
	if up := a.above(); up != nil && up.rank != 0 && rank > up.rank {
		return rulePlanAboveParent, quoted("%s is above %s, the plan of the parent %s", plan, planOf(up.rank), up.id)
	}
	for above := rank + 1; above < planRanks; above++ {
		if a.ranks[above] > 0 {
			return rulePlanAboveParent, quoted("an account below %s has %s, which is above %s", a.id, planOf(above), plan)
		}
	}
	return "", ""
}

// grade notes the rank of the account's plan, which its parent counts.
func (a *account) grade(rank uint8) {
	if a.parent != nil {
		a.parent.ranks[a.rank]--
		a.parent.ranks[rank]++
	}
	a.rank = rank
}

// Plans are the plan, status and period of an account in every service at the instant, by service name.
func (s *State) Plans(id string, at int64) []Plan {
	a := s.existing(id)
	if a == nil {
		return nil
	}
	var plans []Plan
	for i := range a.services {
		v := &a.services[i]
		if p := v.at(at); p.plan != "" || p.status != "" || p.start != 0 || p.until != 0 {
			plans = append(plans, Plan{v.name, p.plan, p.status, p.start, p.until})
		}
	}
	return plans
}

// Service is the account's plan, status and period in one service at the instant; empty if it has none.
func (s *State) Service(id, name string, at int64) Plan {
	if a := s.existing(id); a != nil {
		for i := range a.services {
			if v := &a.services[i]; v.name == name {
				p := v.at(at)
				return Plan{name, p.plan, p.status, p.start, p.until}
			}
		}
	}
	return Plan{Service: name}
}

// PlanAt is the account's plan in the service at the instant, "" if it has none or does not exist yet.
func (s *State) PlanAt(id, service string, at int64) string { return s.Service(id, service, at).Plan }

// UsagePlan is the plan that usage of the meter at the instant falls under when the event names none:
// the account's plan in the meter's service, else its plan if exactly one service has one, else "".
func (s *State) UsagePlan(id, meter string, at int64) string {
	a := s.existing(id)
	if a == nil {
		return ""
	}
	service := ""
	if m := s.meters[meter]; m != nil {
		service = m.now.Service
	}
	only, several := "", false
	for i := range a.services {
		plan := a.services[i].at(at).plan
		if plan == "" {
			continue
		}
		if service != "" && a.services[i].name == service {
			return plan
		}
		several = several || only != ""
		only = plan
	}
	if several {
		return ""
	}
	return only
}

// PlanChanges maps every account whose plans may differ between two instants of [from, to) to the
// instants strictly inside at which they change, in order: usage on both sides of one falls under
// different plans. A change at from itself splits nothing.
func (s *State) PlanChanges(from, to int64) map[string][]int64 {
	changes := map[string][]int64{}
	for id, a := range s.accounts {
		var at []int64
		for i := range a.services {
			plan := ""
			for _, p := range a.services[i].steps {
				if p.plan != plan && p.at > from && p.at < to {
					at = append(at, p.at)
				}
				plan = p.plan
			}
		}
		if len(at) > 0 {
			slices.Sort(at)
			changes[id] = slices.Compact(at)
		}
	}
	return changes
}

// Standing is the plans of an account from an instant on.
type Standing struct {
	Since int64
	Plans []Plan // those that it has, by service
}

// Standings are the instants at which the account's plans change, and what they are from then on.
func (s *State) Standings(id string) []Standing {
	a := s.existing(id)
	if a == nil {
		return nil
	}
	var at []int64
	for i := range a.services {
		plan := ""
		for _, p := range a.services[i].steps {
			if p.plan != plan {
				at = append(at, p.at)
			}
			plan = p.plan
		}
	}
	slices.Sort(at)
	var standings []Standing
	for _, since := range slices.Compact(at) {
		st := Standing{Since: since}
		for i := range a.services {
			v := &a.services[i]
			if p := v.at(since); p.plan != "" {
				st.Plans = append(st.Plans, Plan{v.name, p.plan, p.status, p.start, p.until})
			}
		}
		standings = append(standings, st)
	}
	return standings
}
