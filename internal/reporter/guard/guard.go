// Package guard keeps answers within the reach of the operator who asks. Pages and the API hold a context of For
// around everything they ask, so both refuse the same questions.
//
// Guarantee: what is outside a viewer's reach is access.ErrOutside, whether it exists or not; what is within it but
// not allowed by a role that holds there is access.ErrForbidden.
package guard

import (
	"context"
	"fmt"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/report"
)

// For is a context in which package report answers only what the viewer may see.
func For(ctx context.Context, reports *report.Reports, viewer *access.Viewer) context.Context {
	return report.Guarded(ctx, func(ctx context.Context, q report.Question) error { return Judge(ctx, reports, viewer, q) })
}

// Judge says whether the viewer may have the answer to a question.
func Judge(ctx context.Context, reports *report.Reports, viewer *access.Viewer, q report.Question) error {
	need, known := access.GuardNeeds()[q.Report]
	if !known || viewer == nil || q.Tenant != viewer.Tenant {
		return fmt.Errorf("%s: %w", q.Report, access.ErrForbidden)
	}
	err := viewer.Judge(need.All(q.Export), q.Accounts, func(account string) ([]string, bool, error) {
		return reports.Path(ctx, q.Tenant, account)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", q.Report, err)
	}
	return nil
}

// Job says whether the viewer may have a report made in the background, or by a schedule: what an export needs.
func Job(ctx context.Context, reports *report.Reports, viewer *access.Viewer, name string, values map[string]string) error {
	q := report.Question{Tenant: viewer.Tenant, Report: name, Export: true}
	if root := values[report.RootParameter(name)]; root != "" {
		q.Accounts = []string{root}
	}
	return Judge(ctx, reports, viewer, q)
}
