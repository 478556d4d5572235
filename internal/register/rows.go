package register

import (
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// table is one of those that a fold fills.
type table struct {
	name   string
	insert string // its INSERT
	fill   func(k *kept, add func(values ...any) error) error
}

// tables are all but the generations.
func tables() []table {
	return []table{
		{"directory_accounts", `INSERT INTO {{db}}.directory_accounts (tenant, data, account, name, kind, parent, path, depth, status, plan, service_status,
			contract_mode, trial_ends_at, currency, reseller, created_at, deleted_at)`, (*kept).fillAccounts},
		{"directory_steps", `INSERT INTO {{db}}.directory_steps (tenant, data, account, created_at, since, until, name, kind, parent, contract_mode,
			trial_ends_at, deleted)`, (*kept).fillSteps},
		{"directory_plans", `INSERT INTO {{db}}.directory_plans (tenant, data, account, since, services, plans)`, (*kept).fillPlans},
		{"directory_trees", `INSERT INTO {{db}}.directory_trees (tenant, data, account, since, until, above)`, (*kept).fillTrees},
		{"directory_meters", `INSERT INTO {{db}}.directory_meters (tenant, data, meter, meter_id, element, kind, plan, service, aggregation, unit, scale)`,
			(*kept).fillMeters},
		{"directory_rulings", `INSERT INTO {{db}}.directory_rulings (tenant, data, shard, seq, idx, source, id, type, account, at, recorded_at, rule, detail, raw)`,
			(*kept).fillRulings},
	}
}

// forever is the end of what has none.
func forever() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) }

func instant(ms int64) time.Time {
	if ms == directory.Latest {
		return forever()
	}
	return time.UnixMilli(ms).UTC()
}

// known is nil for an instant that nobody named.
func known(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := instant(ms)
	return &t
}

func (k *kept) fillAccounts(add func(values ...any) error) error {
	tree := k.state.Tree(directory.Latest)
	for _, id := range k.state.Accounts(directory.Latest) {
		a, _ := k.state.Account(id, directory.Latest)
		plans, statuses := map[string]string{}, map[string]string{}
		for _, p := range k.state.Plans(id, directory.Latest) {
			if p.Plan != "" {
				plans[p.Service] = p.Plan
			}
			if p.Status != "" {
				statuses[p.Service] = p.Status
			}
		}
		err := add(k.tenant, k.data, id, a.Name, a.Kind, tree.Parent(id), "/"+strings.Join(tree.Path(id), "/"), uint32(tree.Depth(id)),
			statusOf(a, statuses), plans, statuses, a.ContractMode, known(a.TrialEndsAt), a.Currency, a.Reseller, instant(a.CreatedAt), known(a.DeletedAt))
		if err != nil {
			return err
		}
	}
	return nil
}

// statusOf is an account's status in one word: its services' where they agree that it is disabled.
func statusOf(a directory.Account, services map[string]string) string {
	if a.Deleted {
		return "Deleted"
	}
	for _, status := range services {
		if status != "Disabled" {
			return "Active"
		}
	}
	if len(services) > 0 {
		return "Disabled"
	}
	return "Active"
}

func (k *kept) fillSteps(add func(values ...any) error) error {
	for _, id := range k.state.Accounts(directory.Latest) {
		steps := k.state.Steps(id)
		for i, since := range steps {
			until := int64(directory.Latest)
			if i+1 < len(steps) {
				until = steps[i+1]
			}
			a, _ := k.state.Account(id, since)
			err := add(k.tenant, k.data, id, instant(a.CreatedAt), instant(since), instant(until), a.Name, a.Kind, a.Parent, a.ContractMode,
				known(a.TrialEndsAt), a.Deleted)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *kept) fillPlans(add func(values ...any) error) error {
	for _, id := range k.state.Accounts(directory.Latest) {
		for _, st := range k.state.Standings(id) {
			services, plans := make([]string, len(st.Plans)), make([]string, len(st.Plans))
			for i, p := range st.Plans {
				services[i], plans[i] = p.Service, p.Plan
			}
			if err := add(k.tenant, k.data, id, instant(st.Since), services, plans); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *kept) fillTrees(add func(values ...any) error) error {
	return k.state.MonthTrees(func(account string, since, until int64, above []string) error {
		return add(k.tenant, k.data, account, instant(since), instant(until), above)
	})
}

func (k *kept) fillMeters(add func(values ...any) error) error {
	for _, m := range k.state.Meters() {
		err := add(k.tenant, k.data, m.Name, m.ID, m.Element, m.Kind, m.Plan, m.Service, m.Aggregation, m.Unit, uint8(max(0, min(m.Scale, 255))))
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *kept) fillRulings(add func(values ...any) error) error {
	for _, r := range k.state.Rulings() {
		err := add(k.tenant, k.data, r.Shard, r.Seq, r.Idx, r.Source, r.ID, r.Type, r.Account, instant(r.At), instant(r.RecordedAt), r.Rule, r.Detail, r.Document())
		if err != nil {
			return err
		}
	}
	return nil
}
