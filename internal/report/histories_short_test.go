//go:build !soak

package report_test

// How many generated histories are judged: of usage, of users, of tenants.
const (
	histories       = 8
	staHistories    = 5
	tenantHistories = 5
)
