//go:build soak

package report_test

// How many generated histories are judged: of usage, of users, of tenants.
const (
	histories       = 48
	staHistories    = 24
	tenantHistories = 24
)

// explainedEvery is which of the numbers of a month are explained: all.
const explainedEvery = 1
