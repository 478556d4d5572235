package audit

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// voids compares, tenant by tenant, every negation with the void and the row it must come from, and every
// void with the effect it must have had (I17):
//
//   - The first void naming a target acts; it is `acted` where the target came before it, else `waiting`.
//     Later ones are `already_voided`.
//   - A target that was voided has exactly one row of sign -1, a copy of its row, at the position of
//     whichever of the two came second. An event.voided is never a target.
func (r *run) voids(ctx context.Context) error {
	sql := `SELECT DISTINCT CAST(tenant, 'String') AS t FROM {{db}}.events WHERE (sign = -1 OR type = 'event.voided') AND ` +
		upTo(r.shards) + r.ofTenant() + ` ORDER BY t`
	tenants, err := collect(ctx, r.Auditor, sql, r.args(), func(row warehouse.Rows, t *string) error { return row.Scan(t) })
	if err != nil {
		return err
	}
	for _, t := range tenants {
		if err := r.tenantVoids(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) ofTenant() string {
	if r.Tenant == "" {
		return ""
	}
	return " AND tenant = @tenant"
}

// void is a stored event.voided.
type void struct {
	warehouse.Position
	identity
	target   identity
	effect   string
	recorded int64
}

// signed is a row of an identity that has a negation.
type signed struct {
	warehouse.Position
	identity
	sign     int8
	print    uint64 // of everything but position and recorded_at
	recorded int64
	at       int64
	pieces   uint16
}

const tenantVoids = `
SELECT shard, seq, idx, CAST(source, 'String'), id, JSONExtractString(data, 'target', 'source'), JSONExtractString(data, 'target', 'id'),
    CAST(void_effect, 'String'), toUnixTimestamp64Milli(recorded_at)
FROM {{db}}.events
WHERE tenant = @tenant AND meter = '' AND type = 'event.voided' AND sign = 1 AND {{upto}}`

const tenantNegated = `
WITH ` + dimensionsText + ` AS dimensions_text
SELECT shard, seq, idx, CAST(source, 'String'), id, sign, xxh3(concat(reinterpretAsFixedString(content_hash),
    reinterpretAsFixedString(at), reinterpretAsFixedString(duration), reinterpretAsFixedString(pieces),
    reinterpretAsFixedString(trial_expiry), reinterpretAsFixedString(trial), reinterpretAsFixedString(quantity),
    type, '\0', account, '\0', meter, '\0', region, '\0', platform, '\0', plan, '\0', unit, '\0', asset_id, '\0', asset_name, '\0',
    asset_type, '\0', consumer_type, '\0', consumer_id, '\0', item, '\0', item_version, '\0', dimensions_text, '\0', data, '\0', extensions, '\0')),
    toUnixTimestamp64Milli(recorded_at), toUnixTimestamp64Milli(at), pieces
FROM {{db}}.events
WHERE tenant = @tenant AND {{upto}} AND id_key IN (SELECT id_key FROM {{db}}.events WHERE tenant = @tenant AND sign = -1 AND {{upto}})`

// tenantVoids checks one tenant.
func (r *run) tenantVoids(ctx context.Context, tenant string) error {
	args := []any{warehouse.Named("tenant", tenant)}
	put := func(sql string) string { return strings.ReplaceAll(sql, "{{upto}}", upTo(r.shards)) }
	voids, err := collect(ctx, r.Auditor, put(tenantVoids), args, func(row warehouse.Rows, v *void) error {
		v.tenant, v.target.tenant = tenant, tenant
		return row.Scan(&v.Shard, &v.Seq, &v.Idx, &v.source, &v.id, &v.target.source, &v.target.id, &v.effect, &v.recorded)
	})
	if err != nil {
		return err
	}
	slices.SortFunc(voids, func(a, b void) int { return byPosition(a.Position, b.Position) })
	rows, err := collect(ctx, r.Auditor, put(tenantNegated), args, func(row warehouse.Rows, s *signed) error {
		s.tenant = tenant
		return row.Scan(&s.Shard, &s.Seq, &s.Idx, &s.source, &s.id, &s.sign, &s.print, &s.recorded, &s.at, &s.pieces)
	})
	if err != nil {
		return err
	}
	targets, err := r.targets(ctx, voids)
	if err != nil {
		return err
	}
	byTarget := map[identity][]void{}
	for _, v := range voids {
		byTarget[v.target] = append(byTarget[v.target], v)
	}
	byIdentity := map[identity][]signed{}
	for _, s := range rows {
		byIdentity[s.identity] = append(byIdentity[s.identity], s)
	}
	for _, target := range sortedIdentities(byTarget) {
		o, ok := targets[target]
		r.effects(byTarget[target], o, ok)
		r.negations(target, byTarget[target], o, ok, byIdentity[target])
		delete(byIdentity, target)
	}
	for _, id := range sortedIdentities(byIdentity) {
		r.negations(id, nil, original{}, false, byIdentity[id])
	}
	return r.negatedPieces(ctx, tenant, rows)
}

// targets finds the originals that voids name. All of a tenant is in one partition.
func (r *run) targets(ctx context.Context, voids []void) (originals, error) {
	byPartition := map[int]map[identity]struct{}{}
	for _, v := range voids {
		p := int(v.Shard & partitionMask)
		if byPartition[p] == nil {
			byPartition[p] = map[identity]struct{}{}
		}
		byPartition[p][v.target] = struct{}{}
	}
	all := originals{}
	for _, p := range sortedKeys(byPartition) {
		found, err := r.find(ctx, p, byPartition[p])
		if err != nil {
			return nil, err
		}
		for k, o := range found {
			all[k] = o
		}
	}
	return all, nil
}

// effects checks what each void of one target says of itself; voids are in log order.
func (r *run) effects(voids []void, o original, stored bool) {
	for i := range voids {
		v := &voids[i]
		want := "already_voided"
		switch {
		case stored && o.typ == usage.TypeVoided && before(o.Position, v.Position):
			want = "no row: a void of a void"
		case i > 0:
		case stored && before(o.Position, v.Position):
			want = "acted"
		default:
			want = "waiting"
		}
		if v.effect != want {
			r.found.add(Difference{Check: CheckVoid, Tenant: v.tenant, Shard: v.Shard, Seq: v.Seq, Idx: v.Idx, Source: v.source, ID: v.id,
				What: "void_effect", Want: want, Have: v.effect})
		}
	}
}

// negations checks the rows of sign -1 of one identity.
func (r *run) negations(id identity, voids []void, o original, stored bool, rows []signed) {
	var plus, minus []signed
	for _, s := range rows {
		switch {
		case s.sign == 1:
			plus = append(plus, s)
		case s.sign == -1:
			minus = append(minus, s)
		}
	}
	d := Difference{Check: CheckVoid, Tenant: id.tenant, Source: id.source, ID: id.id}
	differ := func(at warehouse.Position, what, want, have string) {
		d.Shard, d.Seq, d.Idx, d.What, d.Want, d.Have = at.Shard, at.Seq, at.Idx, what, want, have
		r.found.add(d)
	}
	due := len(voids) > 0 && stored && o.typ != usage.TypeVoided
	switch {
	case !due && len(minus) > 0:
		if len(voids) == 0 && len(plus) > 0 {
			differ(minus[0].Position, "row of sign -1 without an event.voided naming it", "0", strconv.Itoa(len(minus)))
		} else {
			differ(minus[0].Position, "row of sign -1 without a row of sign 1", "0", strconv.Itoa(len(minus)))
		}
		return
	case !due:
		return
	}
	second := voids[0].Position
	if before(second, o.Position) {
		second = o.Position
	}
	if len(minus) != 1 {
		differ(second, "rows of sign -1 of a voided event", "1", strconv.Itoa(len(minus)))
		return
	}
	n := minus[0]
	if n.Position != second {
		differ(n.Position, "position of the row of sign -1", place(second), place(n.Position))
	}
	for _, p := range plus {
		if p.Position != o.Position {
			continue // a second original: identities.go names it
		}
		if p.print != n.print {
			differ(n.Position, "row of sign -1 is not a copy of the event's row", strconv.FormatUint(p.print, 16), strconv.FormatUint(n.print, 16))
		}
		if want := max(p.recorded, voids[0].recorded); n.recorded != want {
			differ(n.Position, "recorded_at of the row of sign -1", instantText(want), instantText(n.recorded))
		}
	}
}

const negatedPieces = `
WITH ` + dimensionsText + ` AS dimensions_text
SELECT CAST(source, 'String') AS source_, id, countIf(sign = 1), countIf(sign = -1), sumIf(print, sign = 1) = sumIf(print, sign = -1)
FROM
(
    SELECT source, id, sign, xxh3(concat(reinterpretAsFixedString(piece), reinterpretAsFixedString(at), reinterpretAsFixedString(end_at),
        reinterpretAsFixedString(trial_expiry), reinterpretAsFixedString(trial), reinterpretAsFixedString(quantity),
        account, '\0', meter, '\0', region, '\0', platform, '\0', plan, '\0', asset_id, '\0', asset_name, '\0', asset_type, '\0',
        consumer_type, '\0', consumer_id, '\0', item, '\0', dimensions_text, '\0')) AS print
    FROM {{db}}.pieces
    WHERE tenant = @tenant AND {{upto}} AND (source, id) IN (SELECT source, id FROM {{db}}.pieces WHERE tenant = @tenant AND sign = -1 AND {{upto}})
)
GROUP BY source, id`

// negatedPieces checks that a negation took its pieces along, and nothing else did.
func (r *run) negatedPieces(ctx context.Context, tenant string, rows []signed) error {
	want := map[identity]signed{}
	for _, s := range rows {
		if s.sign == -1 && s.pieces > 1 {
			want[s.identity] = s
		}
	}
	args := []any{warehouse.Named("tenant", tenant)}
	sql := strings.ReplaceAll(negatedPieces, "{{upto}}", upTo(r.shards))
	err := r.query(ctx, sql, args, func(row warehouse.Rows) error {
		id := identity{tenant: tenant}
		var plus, minus uint64
		var same bool
		if err := row.Scan(&id.source, &id.id, &plus, &minus, &same); err != nil {
			return err
		}
		n, ok := want[id]
		delete(want, id)
		if ok && same && plus == minus && minus == uint64(n.pieces) {
			return nil
		}
		d := Difference{Check: CheckPieces, Tenant: tenant, Shard: n.Shard, Seq: n.Seq, Idx: n.Idx, Source: id.source, ID: id.id,
			What: "pieces of sign -1 of an event that was not voided", Want: "0", Have: strconv.FormatUint(minus, 10)}
		if ok {
			d.What, d.Want = "pieces of sign -1", strconv.FormatUint(plus, 10)+" as those of sign 1"
		}
		r.found.add(d)
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range sortedIdentities(want) {
		n := want[id]
		r.found.add(Difference{Check: CheckPieces, Tenant: tenant, Shard: n.Shard, Seq: n.Seq, Idx: n.Idx, Source: id.source, ID: id.id,
			What: "pieces of sign -1", Want: strconv.Itoa(int(n.pieces)), Have: "0"})
	}
	return nil
}

func byPosition(a, b warehouse.Position) int {
	switch {
	case before(a, b):
		return -1
	case before(b, a):
		return 1
	}
	return 0
}

func place(p warehouse.Position) string {
	return "shard " + strconv.Itoa(int(p.Shard)) + ", seq " + strconv.FormatUint(p.Seq, 10) + ", idx " + strconv.FormatUint(uint64(p.Idx), 10)
}

func sortedIdentities[V any](m map[identity]V) []identity {
	all := make([]identity, 0, len(m))
	for k := range m {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b identity) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.source, b.source), cmp.Compare(a.id, b.id))
	})
	return all
}
