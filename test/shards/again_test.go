package shards_test

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/rebuild"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// months closes the months that have ended, of every tenant, by way of the reader: the rows of a version are on the
// server of its tenant, and what everybody reads is what is in the tenant's rows there.
func (b *both) months(address string) {
	b.T.Helper()
	for _, tenant := range tenants() {
		if c := b.CloseMonths(address, b.Rig.Key(tenant, "months:close")); c.Version != 1 {
			b.T.Errorf("the months of %s closed: %+v", tenant, c)
		}
	}
	closed := int64(len(tenants()) * len(fight.EndedMonths()))
	n, err := b.Rig.Warehouse().Numbers(b.T.Context(), "SELECT count(), sum(rows), (SELECT count() FROM "+rig.Database+".month_rows) FROM usage_api.months_v1")
	if err != nil || n[0] != closed || n[1] != n[2] || n[1] == 0 {
		b.T.Errorf("versions, their rows, rows by way of the reader: %v, %v; want %d versions", n, err, closed)
	}
	for i := range servers {
		rows, err := b.Rig.Server(i).Rows(b.T.Context(), `SELECT tenant FROM `+rig.Rows+`.month_versions WHERE tenant NOT IN (SELECT tenant FROM `+rig.Rows+`.events)
			UNION ALL SELECT tenant FROM `+rig.Rows+`.month_rows WHERE close_id NOT IN (SELECT close_id FROM `+rig.Rows+`.month_versions)`)
		if err != nil || len(rows) > 0 {
			b.T.Errorf("closed months on server %d that belong to the other, or to no version: %v, %v", i, rows, err)
		}
	}
	wrong, err := b.Rig.Warehouse().Rows(b.T.Context(), strings.ReplaceAll(`SELECT tenant, account, meter, sum(a), sum(b) FROM
		(
			SELECT tenant, account, meter, quantity AS a, toDecimal256(0, 9) AS b FROM usage_api.usage_monthly_v1 WHERE closed
			UNION ALL
			SELECT tenant, account, meter, toDecimal256(0, 9), toDecimal256(quantity, 9) * sign FROM `+rig.Database+`.events WHERE meter != '' AND pieces < 2 AND formatDateTime(at, '%Y-%m') IN (@months)
			UNION ALL
			SELECT tenant, account, meter, toDecimal256(0, 9), toDecimal256(quantity, 9) * sign FROM `+rig.Database+`.pieces WHERE formatDateTime(at, '%Y-%m') IN (@months)
		) GROUP BY tenant, account, meter HAVING sum(a) != sum(b) LIMIT 5`, "@months", "'"+strings.Join(fight.EndedMonths(), "', '")+"'"))
	if err != nil || len(wrong) > 0 {
		b.T.Errorf("closed months are not what their rows say: %v, %v", wrong, err)
	}
	b.Note += fmt.Sprintf(" closed=%d", closed)
}

// again makes all tables of both servers again. Before that the command dies in between: one server has begun to exchange
// and the other has not, one has exchanged, one has said so; in the short form in one of these places.
func (b *both) again() {
	b.T.Helper()
	before := b.eventTables()
	points := []string{"rebuild/announced:1", fmt.Sprintf("rebuild/exchanged:%d", 5+b.Rnd.IntN(10)), "rebuild/taken:1", "rebuild/concluded:1"}
	b.Rnd.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	for _, at := range points[:fight.Rounds(1, len(points))] {
		if _, code, stderr := b.rebuild(faultpoint.Variable + "=" + at); code != -1 {
			b.T.Fatalf("not killed at %s: exit %d\n%s", at, code, stderr)
		}
		if r, code, stderr := b.rebuild(); code != 0 || !r.Exchanged {
			b.T.Fatalf("killed at %s and run again: exit %d, %+v\n%s", at, code, r, stderr)
		}
	}
	r, code, stderr := b.rebuild()
	if code != 0 || !r.Exchanged || !r.AuditOK || r.Difference != 0 || !r.MonthsOK || len(r.Months) == 0 {
		b.T.Fatalf("rebuild: exit %d, %+v\n%s", code, r, stderr)
	}
	compared := map[string]bool{}
	for _, p := range r.Tables {
		compared[p.Server] = true
	}
	if len(compared) != servers {
		b.T.Errorf("tables of %d servers were compared", len(compared))
	}
	for i, id := range b.eventTables() {
		if id == before[i] {
			b.T.Errorf("the events of server %d are in the old table", i)
		}
		left, err := b.Rig.Server(i).Rows(b.T.Context(), "SELECT name FROM system.databases WHERE name LIKE '%rebuild%'")
		if err != nil || len(left) > 0 {
			b.T.Errorf("left over on server %d: %v, %v", i, left, err)
		}
	}
	b.placed()
	b.Note += fmt.Sprintf(" died=%d paused=%s", fight.Rounds(1, len(points)), r.PausedFor)
}

// eventTables identifies the tables of events that are in use, by server.
func (b *both) eventTables() (ids []string) {
	b.T.Helper()
	for i := range servers {
		rows, err := b.Rig.Server(i).Rows(b.T.Context(), "SELECT toString(uuid) FROM system.tables WHERE database = '"+rig.Rows+"' AND name = 'events'")
		if err != nil || len(rows) != 1 {
			b.T.Fatalf("the table of events of server %d: %v, %v", i, rows, err)
		}
		ids = append(ids, rows[0][0])
	}
	return ids
}

// rebuild runs `countinghouse rebuild`; env arms a crash point.
func (b *both) rebuild(env ...string) (r rebuild.Result, code int, stderr string) {
	b.T.Helper()
	code, stderr = b.Tool("rebuild", env, &r, "--questions", strconv.Itoa(fight.Rounds(6, rebuild.QuestionsUsual)))
	return r, code, stderr
}
