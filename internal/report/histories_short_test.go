//go:build !soak

package report_test

// How many generated histories are judged: of usage, of users, of tenants.
const (
	histories       = 8
	staHistories    = 5
	tenantHistories = 5
)

// explainedEvery is which of the numbers of a month are explained: every fifth, so that the four of a row take turns.
const explainedEvery = 5
