package report

import "github.com/countinghouse/countinghouse/internal/usage"

// Meters of message credits: those that a message is charged on, and all, with the one of credits that were returned.
const (
	chargedMeters = `'` + usage.MeterSMS + `', '` + usage.MeterVoice + `'`
	creditMeters  = chargedMeters + `, '` + usage.MeterReturned + `'`
)

// creditNames are the meters of creditMeters.
func creditNames() []string { return []string{usage.MeterSMS, usage.MeterVoice, usage.MeterReturned} }
