package report

import (
	"context"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// DirectoryAt is the books' answer, which the reports use.
func DirectoryAt(ctx context.Context, r *Reports, tenant string, cut Cut) (*directory.State, error) {
	return r.directoryAt(ctx, tenant, cut)
}
