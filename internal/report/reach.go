package report

import (
	"context"
	"slices"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// Names of what is guarded beside the reports.
const (
	ReportMeter  = "meter-usage" // MeterUsage
	ReportEvents = "events"      // Events
)

// Question is what a guard judges: no answer has anything but of Accounts and the accounts below them; nil: of the
// whole tenant.
type Question struct {
	Tenant, Report string
	Accounts       []string
	Export         bool // for a file rather than a screen
}

// Guard says whether somebody may have the answer to a question; its error is the caller's answer.
type Guard func(ctx context.Context, q Question) error

type guardKey struct{}

// Guarded is a context in which every question is judged first. It is the one place where answers are kept within
// somebody's reach: whatever asks on behalf of an operator asks in such a context.
func Guarded(ctx context.Context, g Guard) context.Context {
	return context.WithValue(ctx, guardKey{}, g)
}

func guarded(ctx context.Context, q Question) error {
	if g, ok := ctx.Value(guardKey{}).(Guard); ok {
		return g(ctx, q)
	}
	return nil
}

// RootParameter names the parameter of a report that holds the account everything in it is at or below; "" if it
// has none.
func RootParameter(report string) string {
	switch report {
	case "sta-usage", "sta-monthly-summary", "tenant-usage", "elastic-usage", "monthly-usage", ReportUsage, ReportAdjustments, ReportMeter, ReportEvents:
		return "account"
	case "tenant-usage-api", "asset-usage-detail":
		return "tenant"
	case "asset-monthly-costs", "asset-adjustments":
		return "organization"
	case "subscriptions", "transactions", "certificate-usage":
		return "partner"
	}
	return ""
}

func (q Query) guarded() Question {
	g := Question{Tenant: q.Tenant, Report: q.Report, Export: q.Export}
	if root := q.Values[RootParameter(q.Report)]; root != "" {
		g.Accounts = []string{root}
	}
	return g
}

// guarded: the running total of a line item is explained by its number alone, so it is of the whole tenant.
func (q ExplainQuery) guarded() Question {
	g := Question{Tenant: q.Tenant, Report: q.Report}
	if root := q.Values[RootParameter(q.Report)]; root != "" && q.Report != "elastic-usage" {
		g.Accounts = []string{root}
	}
	return g
}

// Path is an account and the accounts above it as they are now, its reseller and those above that included; false
// if nobody created it. A deleted account stays where it was.
func (r *Reports) Path(ctx context.Context, tenant, account string) ([]string, bool, error) {
	w, err := r.Watermark(ctx)
	if err != nil {
		return nil, false, err
	}
	cut, err := w.cutOr(nil, directory.Latest)
	if err != nil {
		return nil, false, err
	}
	state, err := r.directoryAt(ctx, tenant, cut)
	if err != nil {
		return nil, false, err
	}
	a, exists := state.Account(account, cut.AsOf)
	if !exists {
		return nil, false, nil
	}
	tree := state.Tree(cut.AsOf + 1)
	path := tree.Path(account)
	if a.Reseller != "" {
		path = append(path, tree.Path(a.Reseller)...)
	}
	slices.Sort(path)
	return slices.Compact(path), true, nil
}
