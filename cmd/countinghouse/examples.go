package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// dateExamples puts months into the examples of every command for which the sample data of `up --demo` has numbers at
// this time: {last} is the last completed month and {before} the one before, which has two versions; {this} is under way.
func dateExamples(cmd *cobra.Command, now time.Time) {
	first := time.Date(now.UTC().Year(), now.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	month := func(ago int) string { return first.AddDate(0, -ago, 0).Format("2006-01") }
	dates := strings.NewReplacer("{this}", month(0), "{last}", month(1), "{before}", month(2), "{last.}", strings.ReplaceAll(month(1), "-", ""))
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.Example = dates.Replace(c.Example)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(cmd)
}

// reportExamples ask each report something that the sample data answers.
func reportExamples() map[string]string {
	return map[string]string{
		"sta-usage":           "--account northwind --month {last}",
		"sta-monthly-summary": "--account northwind --from {before} --to {last}",
		"tenant-usage":        "--account northwind --period last_month",
		"tenant-usage-api":    "--tenant acme --usage-type USERS --aggregation MONTHLY --from {before}-01 --to {last}-28",
		"asset-usage-detail":  "--tenant alpine --month {last}",
		"asset-monthly-costs": "--organization alpine-org --month {last}",
		"asset-adjustments":   "--organization alpine-org --processing-month {last}",
		"elastic-usage":       "--account acme --from {last}-01T00:00:00Z --to {this}-01T00:00:00Z",
		"subscriptions":       "--partner keystone",
		"transactions":        "--partner trust --from {before}-01 --to {last}-28",
		"certificate-usage":   "--partner trust --expand customer",
		"monthly-usage":       "--month {last} --account acme",
	}
}
