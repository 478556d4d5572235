package audit_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// TestBroken breaks one thing at a time behind everybody's back; the audit must name the place.
func TestBroken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := r.start()
	at := base()
	r.await(r.everything(at))
	stop()
	r.sound(audit.Options{Full: true})
	for _, table := range warehouse.Projections() {
		r.query("CREATE TABLE {db}.kept_%s CLONE AS {db}.%s", table, table)
	}

	const sync = " SETTINGS mutations_sync = 2"
	tests := map[string]struct {
		sql   string
		full  bool             // only a full audit sees it
		light bool             // the hourly check sees it too
		want  audit.Difference // What is a part of what is said; empty fields are not compared
	}{
		"raw row deleted": {
			sql: "ALTER TABLE {db}.events DELETE WHERE tenant = 'acme' AND id = '2'" + sync, light: true,
			want: audit.Difference{Check: audit.CheckRaw, Tenant: "acme", Seq: 5, Source: "/test", ID: "2", What: "without a row"},
		},
		"raw row of a chunk deleted": {
			sql: "ALTER TABLE {db}.events DELETE WHERE tenant = 'beta' AND id = 'p17'" + sync, light: true,
			want: audit.Difference{Check: audit.CheckRaw, Tenant: "beta", Seq: 29, Idx: 17, ID: "p17", What: "without a row"},
		},
		"original of a duplicate deleted": {
			sql: "ALTER TABLE {db}.events DELETE WHERE tenant = 'beta' AND id = 'p3'" + sync, light: true,
			want: audit.Difference{Check: audit.CheckRaw, Tenant: "beta", Seq: 30, Idx: 3, ID: "p3", What: "without a row"},
		},
		"phantom": {
			sql: "INSERT INTO {db}.events SELECT * REPLACE ('phantom' AS id) FROM (SELECT * FROM {db}.events WHERE tenant = 'acme' AND id = '3')", light: true,
			want: audit.Difference{Check: audit.CheckRaw, Tenant: "acme", Seq: 5, Idx: 2, What: "row without an event"},
		},
		"phantom where nothing was": {
			sql: "INSERT INTO {db}.events SELECT * REPLACE ('phantom' AS id, 25 AS seq) FROM (SELECT * FROM {db}.events WHERE tenant = 'acme' AND id = '2')", light: true,
			want: audit.Difference{Check: audit.CheckRaw, Tenant: "acme", Seq: 25, ID: "phantom", What: "row without an event"},
		},
		"counted twice": {
			sql: "INSERT INTO {db}.events SELECT * REPLACE (3 AS seq) FROM (SELECT * FROM {db}.events WHERE tenant = 'acme' AND id = '2')", light: true,
			want: audit.Difference{Check: audit.CheckIdentity, Tenant: "acme", Seq: 5, ID: "2", What: "more than one row", Want: "1"},
		},
		"row twice in its place": {
			sql: "INSERT INTO {db}.events SELECT * FROM {db}.events WHERE tenant = 'acme' AND id = '2'", light: true,
			want: audit.Difference{Check: audit.CheckIdentity, Tenant: "acme", Seq: 5, ID: "2", What: "more than one row"},
		},
		"quantity changed": {
			sql: "ALTER TABLE {db}.events UPDATE quantity = quantity + 0.000000001 WHERE tenant = 'acme' AND id = '2'" + sync, light: true,
			want: audit.Difference{Check: audit.CheckRaw, Tenant: "acme", Seq: 5, ID: "2", What: "quantity", Want: "1.5", Have: "1.500000001"},
		},
		"region changed": {
			sql:  "ALTER TABLE {db}.events UPDATE region = 'mars' WHERE tenant = 'acme' AND id = '2'" + sync,
			want: audit.Difference{Check: audit.CheckRaw, Tenant: "acme", Seq: 5, ID: "2", What: "region", Want: "eu", Have: "mars"},
		},
		"recorded_at changed": {
			sql:  "ALTER TABLE {db}.events UPDATE recorded_at = recorded_at + INTERVAL 1 SECOND WHERE tenant = 'acme' AND id = '2'" + sync,
			want: audit.Difference{Check: audit.CheckRaw, Tenant: "acme", Seq: 5, ID: "2", What: "recorded_at"},
		},
		"dimension changed": {
			sql:  "ALTER TABLE {db}.events UPDATE dimensions = map('a', '2') WHERE tenant = 'acme' AND id = '2'" + sync,
			want: audit.Difference{Check: audit.CheckRaw, Tenant: "acme", Seq: 5, ID: "2", What: "dimensions"},
		},
		"strange sign": {
			light: true,
			sql:   "INSERT INTO {db}.events SELECT * REPLACE (2 AS sign) FROM (SELECT * FROM {db}.events WHERE tenant = 'acme' AND id = '2')",
			want:  audit.Difference{Check: audit.CheckRaw, Tenant: "acme", Seq: 5, ID: "2", What: "sign"},
		},
		"rollup cell deleted": {
			sql: "ALTER TABLE {db}.usage_hourly DELETE WHERE tenant = 'acme' AND account = 'b'" + sync, light: true,
			want: audit.Difference{Check: audit.CheckRollup, Tenant: "acme", What: "of usage_hourly against raw rows", Cell: "meter tokens, account b"},
		},
		"rollup cell added": {
			sql: "INSERT INTO {db}.usage_hourly SELECT * REPLACE ('z' AS account) FROM (SELECT * FROM {db}.usage_hourly WHERE tenant = 'beta' AND meter = 'tokens' LIMIT 1)", light: true,
			want: audit.Difference{Check: audit.CheckRollup, Tenant: "beta", What: "of usage_hourly against raw rows", Cell: "account z"},
		},
		"usage moved between cells": {
			sql:  "INSERT INTO {db}.usage_hourly SELECT * EXCEPT (n) REPLACE (if(n = 0, 'b', 'a') AS account, if(n = 0, 1, -1) AS quantity, 0 AS events, 0 AS voids, 0 AS rows) FROM (SELECT h.*, n FROM {db}.usage_hourly AS h, (SELECT arrayJoin([0, 1]) AS n) AS x WHERE tenant = 'acme' AND account = 'b')",
			want: audit.Difference{Check: audit.CheckRollup, Tenant: "acme", What: "quantity of usage_hourly against raw rows", Cell: "account"},
		},
		"rollup maximum changed": {
			sql: "INSERT INTO {db}.usage_hourly SELECT * REPLACE (0 AS quantity, 0 AS events, 0 AS rows, 0 AS voids, 1000000 AS high) FROM (SELECT * FROM {db}.usage_hourly WHERE tenant = 'acme' AND account = 'a' AND meter = 'hours' AND voids = 0 LIMIT 1)", full: true,
			want: audit.Difference{Check: audit.CheckRollup, Tenant: "acme", What: "low, high", Cell: "meter hours, account a"},
		},
		"monthly cell deleted": {
			sql: "ALTER TABLE {db}.usage_monthly DELETE WHERE tenant = 'acme' AND account = 'b'" + sync, light: true,
			want: audit.Difference{Check: audit.CheckRollup, Tenant: "acme", What: "of usage_monthly against raw rows", Cell: "meter tokens, account b, month 20"},
		},
		"usage moved between monthly cells": {
			sql:  "INSERT INTO {db}.usage_monthly SELECT * EXCEPT (n) REPLACE (if(n = 0, 'b', 'a') AS account, if(n = 0, 1, -1) AS quantity, 0 AS events, 0 AS voids, 0 AS rows) FROM (SELECT h.*, n FROM {db}.usage_monthly AS h, (SELECT arrayJoin([0, 1]) AS n) AS x WHERE tenant = 'acme' AND account = 'b')",
			want: audit.Difference{Check: audit.CheckRollup, Tenant: "acme", What: "quantity of usage_monthly against raw rows", Cell: "account"},
		},
		"monthly maximum changed": {
			sql: "INSERT INTO {db}.usage_monthly SELECT * REPLACE (0 AS quantity, 0 AS events, 0 AS rows, 0 AS voids, 1000000 AS high) FROM (SELECT * FROM {db}.usage_monthly WHERE tenant = 'beta' AND account = 'account-1' LIMIT 1)", full: true,
			want: audit.Difference{Check: audit.CheckRollup, Tenant: "beta", What: "low, high, first_at, last_at of usage_monthly", Cell: "meter tokens, account account-1"},
		},
		"ledger row dropped": {
			sql: "ALTER TABLE {db}.ledger DELETE WHERE seq = 5" + sync, light: true,
			want: audit.Difference{Check: audit.CheckLedger, Tenant: "acme", Seq: 5, What: "no ledger row"},
		},
		"first ledger row dropped": {
			sql: "ALTER TABLE {db}.ledger DELETE WHERE seq = 1" + sync, light: true,
			want: audit.Difference{Check: audit.CheckLedger, Tenant: "acme", Seq: 1, What: "no ledger row"},
		},
		"ledger row doubled": {
			sql: "INSERT INTO {db}.ledger SELECT * FROM {db}.ledger WHERE seq = 5", light: true,
			want: audit.Difference{Check: audit.CheckLedger, Tenant: "acme", Seq: 5, What: "ledger rows", Want: "1", Have: "2"},
		},
		"hash changed": {
			sql:  "ALTER TABLE {db}.ledger UPDATE hash = hash + 1 WHERE seq = 14" + sync,
			want: audit.Difference{Check: audit.CheckLedger, Tenant: "beta", Seq: 14, What: "hash of the message"},
		},
		"logged_at changed": {
			sql:  "ALTER TABLE {db}.ledger UPDATE logged_at = logged_at - INTERVAL 1 HOUR WHERE seq = 14" + sync,
			want: audit.Difference{Check: audit.CheckLedger, Tenant: "beta", Seq: 14, What: "logged_at"},
		},
		"accepted changed": {
			sql: "ALTER TABLE {db}.ledger UPDATE accepted = accepted + 1 WHERE seq = 5" + sync, light: true,
			want: audit.Difference{Check: audit.CheckLedger, Tenant: "acme", Seq: 5, What: "accepted", Want: "3", Have: "4"},
		},
		"a stored event called a duplicate": {
			sql: "ALTER TABLE {db}.ledger UPDATE stored = stored - 1, duplicate = 1 WHERE seq = 5" + sync, light: true,
			want: audit.Difference{Check: audit.CheckLedger, Tenant: "acme", Seq: 5, What: "counts",
				Want: "stored 2, duplicate 0, conflict 0, quarantined 1", Have: "stored 1, duplicate 1, conflict 0, quarantined 1"},
		},
		"voided changed": {
			sql: "ALTER TABLE {db}.ledger UPDATE voided = 0 WHERE seq = 6" + sync, light: true,
			want: audit.Difference{Check: audit.CheckVoid, Tenant: "acme", Seq: 6, What: "voided of the ledger", Want: "0", Have: "1"},
		},
		"negation deleted": {
			sql: "ALTER TABLE {db}.events DELETE WHERE tenant = 'acme' AND id = '1' AND sign = -1" + sync, light: true,
			want: audit.Difference{Check: audit.CheckVoid, Tenant: "acme", Seq: 6, ID: "1", What: "rows of sign -1", Want: "1", Have: "0"},
		},
		"negation of nothing": {
			sql: "INSERT INTO {db}.events SELECT * REPLACE (-1 AS sign) FROM (SELECT * FROM {db}.events WHERE tenant = 'acme' AND id = '2')", light: true,
			want: audit.Difference{Check: audit.CheckVoid, Tenant: "acme", Seq: 5, ID: "2", What: "without an event.voided"},
		},
		"negation is no copy": {
			sql:  "ALTER TABLE {db}.events UPDATE plan = 'other' WHERE tenant = 'acme' AND id = 'later' AND sign = -1" + sync,
			want: audit.Difference{Check: audit.CheckVoid, Tenant: "acme", Seq: 10, ID: "later", What: "not a copy"},
		},
		"void effect changed": {
			sql:  "ALTER TABLE {db}.events UPDATE void_effect = 'acted' WHERE tenant = 'acme' AND id = 'v5'" + sync,
			want: audit.Difference{Check: audit.CheckVoid, Tenant: "acme", Seq: 11, ID: "v5", What: "void_effect", Want: "waiting", Have: "acted"},
		},
		"piece deleted": {
			sql: "ALTER TABLE {db}.pieces DELETE WHERE tenant = 'acme' AND id = 'cut' AND piece = 1" + sync, light: true,
			want: audit.Difference{Check: audit.CheckPieces, Tenant: "acme", Seq: 15, ID: "cut", What: "pieces"},
		},
		"piece changed": {
			sql: "ALTER TABLE {db}.pieces UPDATE quantity = quantity - 1 WHERE tenant = 'acme' AND id = 'cut' AND piece = 1" + sync, light: true,
			want: audit.Difference{Check: audit.CheckPieces, Tenant: "acme", Seq: 15, ID: "cut", What: "pieces"},
		},
		"piece of a negation deleted": {
			sql: "ALTER TABLE {db}.pieces DELETE WHERE tenant = 'acme' AND id = 'cutv' AND sign = -1 AND piece = 0" + sync, light: true,
			want: audit.Difference{Check: audit.CheckPieces, Tenant: "acme", Seq: 17, ID: "cutv", What: "pieces of sign -1"},
		},
		"dead letter deleted": {
			sql:  "ALTER TABLE {db}.dead_letters DELETE WHERE seq = 5" + sync,
			want: audit.Difference{Check: audit.CheckDead, Tenant: "acme", Seq: 5, Idx: 1, What: "no dead letter"},
		},
		"dead letter added": {
			sql:  "INSERT INTO {db}.dead_letters SELECT * REPLACE (2 AS seq, 0 AS idx) FROM (SELECT * FROM {db}.dead_letters WHERE seq = 5)",
			want: audit.Difference{Check: audit.CheckDead, Tenant: "acme", Seq: 2, What: "dead letter of an event that counts"},
		},
		"duplicate row deleted": {
			sql:  "ALTER TABLE {db}.duplicates DELETE WHERE seq = 3" + sync,
			want: audit.Difference{Check: audit.CheckDuplicate, Tenant: "acme", Seq: 3, What: "rows of duplicates"},
		},
		"directory row deleted": {
			sql:  "ALTER TABLE {db}.directory_events DELETE WHERE id = 'c2' AND sign = -1" + sync,
			want: audit.Difference{Check: audit.CheckDirectory, Tenant: "acme", Seq: 24, ID: "c2", What: "row of events without"},
		},
		"directory row changed": {
			sql:  "ALTER TABLE {db}.directory_events UPDATE data = '{}' WHERE id = 'c1'" + sync,
			want: audit.Difference{Check: audit.CheckDirectory, Tenant: "acme", Seq: 1, ID: "c1", What: "row of directory_events without"},
		},
		"elastic line deleted": {
			sql:  "ALTER TABLE {db}.elastic_lines DELETE WHERE id = 'op' AND line_no = 3" + sync,
			want: audit.Difference{Check: audit.CheckElastic, Tenant: "acme", Seq: 31, ID: "op", What: "line of an elastic operation without"},
		},
		"elastic line changed": {
			sql:  "ALTER TABLE {db}.elastic_lines UPDATE meter_quantity = 1 WHERE id = 'op-voided' AND line_no = 1 AND sign = -1" + sync,
			want: audit.Difference{Check: audit.CheckElastic, Tenant: "acme", Seq: 33, ID: "op-voided", What: "line"},
		},
		"elastic consumer changed": {
			sql:  "ALTER TABLE {db}.elastic_lines UPDATE consumer_id = 'ann' WHERE id = 'op' AND line_no = 1" + sync,
			want: audit.Difference{Check: audit.CheckElastic, Tenant: "acme", Seq: 31, ID: "op", What: "line of an elastic operation without"},
		},
		"elastic total of the producer forgotten": {
			sql:  "ALTER TABLE {db}.elastic_lines UPDATE given = 3 WHERE id = 'op' AND line_no = 2" + sync,
			want: audit.Difference{Check: audit.CheckElastic, Tenant: "acme", Seq: 31, ID: "op", What: "row of elastic_lines without"},
		},
		"elastic meta data changed": {
			sql:  "ALTER TABLE {db}.elastic_lines UPDATE meta_data = '{}' WHERE id = 'op' AND line_no = 2" + sync,
			want: audit.Difference{Check: audit.CheckElastic, Tenant: "acme", Seq: 31, ID: "op", What: "line of an elastic operation without"},
		},
		"part detached": {
			sql: "ALTER TABLE {db}.events DETACH PARTITION " + at.Format("200601"), light: true,
			want: audit.Difference{Check: audit.CheckStorage, What: "detached part of events"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := *r
			r.TB = t
			r.query("%s", tt.sql)
			defer r.restore(tt.sql)
			if tt.full {
				r.sound(audit.Options{})
			}
			r.finds(r.run(audit.Options{Full: tt.full}), tt.want)
			off, err := r.audit.Light(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if seen := off[tt.want.Tenant] > 0 || off[""] > 0; seen != tt.light {
				t.Errorf("light: %v, want seen %t", off, tt.light)
			}
			other := map[string]string{"acme": "beta", "beta": "acme"}[tt.want.Tenant]
			if other == "" {
				return
			}
			if c := r.run(audit.Options{Tenant: other}); !c.OK {
				t.Errorf("another tenant's certificate has\n%s", lines(c.Differences))
			}
			r.finds(r.run(audit.Options{Tenant: tt.want.Tenant, Full: tt.full}), tt.want)
		})
	}
	r.sound(audit.Options{Full: true})
}

// restore puts back the tables that a statement touched.
func (r *rig) restore(sql string) {
	r.Helper()
	for _, table := range warehouse.Projections() {
		if !strings.Contains(sql, "{db}."+table) {
			continue
		}
		r.query("DROP TABLE {db}.%s SYNC", table)
		r.query("CREATE TABLE {db}.%s CLONE AS {db}.kept_%s", table, table)
	}
}

// finds wants a difference like want among those of c.
func (r *rig) finds(c *audit.Certificate, want audit.Difference) {
	r.Helper()
	if c.OK || c.DifferenceCount == 0 {
		r.Errorf("no difference found")
		return
	}
	is := func(have, want string) bool { return want == "" || have == want }
	for _, d := range c.Differences {
		if d.Check == want.Check && is(d.Tenant, want.Tenant) && (want.Seq == 0 || d.Seq == want.Seq && d.Idx == want.Idx) && is(d.Source, want.Source) &&
			is(d.ID, want.ID) && is(d.Want, want.Want) && is(d.Have, want.Have) && strings.Contains(d.What, want.What) && strings.Contains(d.Cell, want.Cell) {
			return
		}
	}
	r.Errorf("want\n  %+v\nhave %d:\n%s", want, c.DifferenceCount, lines(c.Differences))
}

// TestLeftovers puts rows above the progress of an incarnation that ended, into each table of rows; the audit must name
// every one.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := r.start()
	r.await(r.everything(base()))
	stop()
	tables := []string{"events", "pieces", "directory_events", "dead_letters", "duplicates", "elastic_lines"}
	for _, table := range tables {
		r.query("INSERT INTO {db}.%s SELECT * REPLACE (1000 AS seq) FROM (SELECT * FROM {db}.%s LIMIT 1)", table, table)
	}
	r.query("INSERT INTO {db}.ledger SELECT * REPLACE (shard + 1024 AS shard, 1 AS seq) FROM (SELECT * FROM {db}.ledger WHERE seq = 1)")
	found := r.run(audit.Options{}).Differences
	for _, table := range tables {
		if !slices.ContainsFunc(found, func(d audit.Difference) bool {
			return d.Check == audit.CheckStorage && d.Seq == 1000 && strings.Contains(d.What, "rows of "+table+" that were never committed")
		}) {
			t.Errorf("row of %s above the progress of an ended incarnation is not named:\n%s", table, lines(found))
		}
	}
}
