// Package guard keeps answers within the reach of who asks. Pages and the API hold a context of For around everything
// they ask, so both refuse the same questions; what is made while nobody is signed in is judged by Owners.
//
// Guarantees:
//
//   - What is outside a viewer's reach is access.ErrOutside, whether it exists or not; what is within it but not allowed
//     by a role that holds there is access.ErrForbidden.
//   - A report job or schedule is there for whoever may have its report as a file (Sees), whoever made it.
//   - What was asked for earlier is made with the rights that its owner has now.
package guard

import (
	"context"
	"errors"
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

// Sees reports whether the viewer may see, have and change a report job or schedule: whether it could be their own. One
// that they may not see is not there for them, for whichever reason.
func Sees(ctx context.Context, reports *report.Reports, viewer *access.Viewer, name string, values map[string]string) (bool, error) {
	err := Job(ctx, reports, viewer, name, values)
	if errors.Is(err, access.ErrOutside) || errors.Is(err, access.ErrForbidden) {
		return false, nil
	}
	return err == nil, err
}
