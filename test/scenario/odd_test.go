package scenario

import (
	"strings"
	"testing"
)

// What the worked scenarios leave out of the tree of accounts: a plan set exactly at midnight of the 1st, a rename and a
// move in one month, a user of two accounts, a service whose period ends in the month, and a name that is used again.
func TestOddMonthsOfAccounts(t *testing.T) {
	w := fixtureA(t)
	w.send(
		ev("2025-03-01T00:00:00Z", "service.plan_set", "A-2", d{"service": "sta", "plan": "STA Premium"}),
		ev("2025-02-05", "account.renamed", "A-4", d{"name": "Beta East"}),
		ev("2025-02-06", "account.reparented", "A-4", d{"new_parent_account_id": "A-3"}),
		registered("2025-02-02", "A-2", "u1"), token("2025-02-03", "A-2", "u1", "active"), success("2025-02-10", "A-2", "u1"), success("2025-02-10", "A-1", "u1"),
		ev("2025-01-01", "service.period_set", "A-3", d{"service": "sta", "start": "2025-01-01T00:00:00Z", "end": "2025-02-15T00:00:00Z"}),
	)
	w.want("January", w.screen("A-1", "2025-01"), screenA1)
	w.want("February", w.screen("A-1", "2025-02"), `
Acme MSP | STA Basic | Active | 0 | 3 | 4
Acme MSP | STA | Active | 1 | 3 | 4
Acme MSP | STA Premium | Active | 1 | 2 | 3
Beta Bank | STA | Active | 1 | 3 | 4
Cargo Ltd | STA Basic | Active | 0 | 3 | 4
Cargo Ltd | STA Premium | Active | 0 | 1 | 1`)
	w.want("March", w.screen("A-1", "2025-03"), `
Acme MSP | STA Basic | Active | 0 | 3 | 4
Acme MSP | STA Premium | Active | 0 | 5 | 7
Beta Bank | STA Premium | Active | 0 | 3 | 4
Cargo Ltd | STA Basic | Active | 0 | 3 | 4
Cargo Ltd | STA Premium | Active | 0 | 1 | 1`)
	w.want("renamed and moved", w.export("account", "A-4", "from", "2025-01", "to", "2025-02", "scope", "own"), `
Beta Branch,A-4,Beta Bank,A-2,2025-01,Active,Available,STA Basic,4,3,2,4,3,2,0,0,0,0,0,0
Beta East,A-4,Cargo Ltd,A-3,2025-02,Active,Available,STA Basic,4,3,0,4,3,0,0,0,0,0,0,0`)

	// A leap day: created in its last millisecond, deleted at the month's end, which is in the next month; the name is free again after.
	shop := func(at, id string) []event {
		return []event{
			ev(at, "account.created", id, d{"name": "Corner Shop", "kind": "subscriber"}), ev(at, "service.plan_set", id, d{"service": "sta", "plan": "STA"}),
			ev(at, "service.status_set", id, d{"service": "sta", "status": "Active"}), registered(at, id, "s1"),
		}
	}
	w.send(shop("2024-02-29T23:59:59.999Z", "S-1")...)
	w.send(ev("2024-03-01T00:00:00Z", "account.deleted", "S-1", d{}))
	w.send(shop("2024-03-01T00:00:00.001Z", "S-2")...)
	w.want("the first", w.export("account", "S-1", "from", "2024-01", "to", "2024-03", "scope", "own"), `
Corner Shop,S-1,,,2024-01,,Non existent,,,,,,,,,,,,,
Corner Shop,S-1,,,2024-02,Active,Available,STA,1,0,0,0,0,0,1,0,0,0,0,0
Corner Shop,S-1,,,2024-03,,Non existent,,,,,,,,,,,,,`)
	w.want("the second", w.export("account", "S-2", "from", "2024-02", "to", "2024-03", "scope", "own"), `
Corner Shop,S-2,,,2024-02,,Non existent,,,,,,,,,,,,,
Corner Shop,S-2,,,2024-03,Active,Available,STA,1,0,0,0,0,0,1,0,0,0,0,0`)
}

// One record over a leap February, a trial that spans months, ties of rounding, and a trial that is set anew exactly
// where it ends.
func TestOddUsageOfAssets(t *testing.T) {
	w := newWorld(t)
	fixture := fixtureC()
	for i := range fixture {
		fixture[i].at = "2023-12-01"
		if fixture[i].data["effective_from"] != nil {
			fixture[i].data["effective_from"] = "2023-12-01T00:00:00Z"
		}
	}
	w.send(fixture...)
	span := func(meter, asset, from, to, quantity string) event {
		return ev(to, "usage.metered", "SC-1", d{"meter": meter, "quantity": quantity, "region": "EU", "asset": d{"id": asset}, "start": from, "end": to})
	}
	w.send(
		span("user_hours_essentials", "joe@email.com", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z", "696"),
		ev("2024-03-10", "asset.trial_set", "SC-1", d{"asset_id": "T-1", "trial_expiry": "2024-04-02T12:00:00Z"}),
		span("bandwidth_gib_essentials", "T-1", "2024-03-31T12:00:00Z", "2024-04-02T18:00:00Z", "54"),
		gib("2024-05-10", "SC-1", "100.3125"), gib("2024-06-10", "SC-1", "100.4375"), gib("2024-07-10", "SC-1", "500.5"), gib("2024-08-10", "SC-1", "500.7"),
	)
	days := column(w.detail("SC-1", "2024-02"), "quantity")
	w.want("29 days", strings.Join(days, " "), strings.TrimSpace(strings.Repeat("24.000000 ", 29)))
	short := func(month string) string {
		costs := w.costs(month)
		var lines []string
		for i, quantity := range column(costs, "quantity") {
			lines = append(lines, column(costs, "trial")[i]+" "+quantity+" "+column(costs, "cost")[i])
		}
		return strings.Join(lines, "\n")
	}
	w.want("696 hours at 0.012", short("2024-02"), "FALSE 696.000000 8.35")
	w.want("the trial's first month", short("2024-03"), "TRUE 12.000000 0.00")
	w.want("the trial's last month", short("2024-04"), "TRUE 36.000000 0.00\nFALSE 6.000000 0.00")
	for month, want := range map[string]string{"2024-05": "0.02", "2024-06": "0.04", "2024-07": "32.02", "2024-08": "32.04"} {
		w.want("half-even, "+month, strings.Join(column(w.costs(month), "cost"), " "), want)
	}
	// At noon of the 5th a trial ends, and is set anew to an instant that is past: it did not end, and what runs stays whole.
	w.send(
		ev("2024-09-01", "asset.trial_set", "SC-1", d{"asset_id": "T-1", "trial_expiry": "2024-09-05T12:00:00Z"}),
		ev("2024-09-05T12:00:00Z", "asset.trial_set", "SC-1", d{"asset_id": "T-1", "trial_expiry": "2024-09-05T06:00:00Z"}),
		span("bandwidth_gib_essentials", "T-1", "2024-09-05T11:00:00Z", "2024-09-05T13:00:00Z", "2"),
		span("bandwidth_gib_essentials", "T-1", "2024-09-05T12:00:00Z", "2024-09-05T13:00:00Z", "8"),
	)
	w.want("set anew at its end", short("2024-09"), "TRUE 2.000000 0.00\nFALSE 8.000000 0.00")
	for _, trial := range []string{"true", "false"} {
		w.explain("report", "asset-monthly-costs", "organization", "O-1", "tenant", "SC-1", "month", "2024-09", "meter", "bandwidth_gib_essentials", "region", "EU",
			"plan", "essentials", "trial", trial, "measure", "cost")
	}
}

// A refund goes back to each line item that was charged; a granted line without one has a quantity and no running total.
func TestOddLinesOfElastic(t *testing.T) {
	w := newWorld(t)
	nobodys := granted(1, "", "PhotoPrint", 2, 3, 6)
	delete(nobodys, "activation_id")
	w.send(append(fixtureD(), lineItem("ACT01", 10, "2034-04-17T00:00:00Z"), lineItem("ACT02", 100, "2035-08-28T00:00:00Z"),
		oneOff("2023-12-01T10:00:00Z", granted(1, "ACT01", "PhotoPrint", 1, 3, 3), granted(2, "ACT01", "CADPrint", 1, 7, 7), granted(3, "ACT02", "CADPrint", 7, 7, 49)),
		operation("2023-12-01T10:30:00Z", "refund", nil, granted(1, "ACT01", "CADPrint", -0.5, 7, -3.5), granted(2, "ACT02", "CADPrint", -3.5, 7, -24.5)),
		oneOff("2023-12-01T11:00:00Z", nobodys))...)
	w.want("refunded", w.tokens(shownD), `
ACT01 10 3 PhotoPrint 1 - 101 3 3
ACT01 10 10 CADPrint 1 - 101 7 7
ACT02 100 49 CADPrint 7 - 101 7 49
ACT01 10 6.5 CADPrint -0.5 - 101 7 -3.5
ACT02 100 24.5 CADPrint -3.5 - 101 7 -24.5
- - - PhotoPrint 2 - 101 3 6`)
	w.want("ACT01", w.explain("report", "elastic-usage", "activation", "ACT01").Number, "6.5")
}
