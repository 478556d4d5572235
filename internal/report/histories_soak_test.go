//go:build soak

package report_test

// How many generated histories are judged: of usage, of users, of tenants.
const (
	histories       = 48
	staHistories    = 24
	tenantHistories = 24
)
