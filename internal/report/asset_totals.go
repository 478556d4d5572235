package report

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// costAccountsMany is from how many accounts on it is cheaper to sum those of all and leave the others out.
const costAccountsMany = 1000

// unsteadyMax is up to how many assets that change in a month are told by name.
const unsteadyMax = 10_000

// assetTotalsKept bounds the sums that are kept for the next question, over all tenants: about 200 bytes each.
const assetTotalsKept = 200_000

// assetTotal is what an account used of a meter in a month under one plan: the one the usage names, else that of the
// segment, which counts the changes of the account's plans up to then.
type assetTotal struct {
	costKey
	segment  uint32
	quantity amount
}

// assetSums are the pieces of assetRecords, those of assets that stay what they are for the whole month added up: nearly
// all, and then only a sum per asset has to be looked at. What changes in the month, of the asset or its account, is
// read record by record. A sum of a month of an asset fits 128 bits: quantities are below 1e29 billionths, records of
// an asset in a month fewer than 1e9.
const (
	assetSteady = `
SELECT account, meter, asset, region, platform, plan, {from:Int64} AS begins, begins AS stops, toInt256(total) AS n, toInt64(1) AS s, live,
    said, toUnixTimestamp64Milli(expiry) AS own
FROM
(
    SELECT account, meter, asset_id AS asset, region, platform, plan, trial AS said, trial_expiry AS expiry,
        sum(reinterpretAsInt128(quantity) * sign) AS total, sum(toInt64(sign)) AS live
    FROM {{db}}.events
    WHERE ` + assetChosen + ` AND pieces <= 1 AND quantity >= 0 AND ` + assetMonth + `
    GROUP BY account, meter, asset_id, region, platform, plan, trial, trial_expiry
)`
	assetNamed = `(account IN (SELECT arrayJoin({unsteady:Array(String)}))
        OR (account, asset) IN (SELECT tupleElement(pair, 1), tupleElement(pair, 2) FROM (SELECT arrayJoin(arrayZip({moving_of:Array(String)}, {moving:Array(String)})) AS pair)))`
	assetSums      = assetSteady + assetCut
	assetSumsMoved = assetSteady + `
WHERE NOT ` + assetNamed + `
UNION ALL
SELECT account, meter, asset, region, platform, plan, begins, stops, n, s, live, said, own
FROM (` + assetWhole + ` AND (account IN (SELECT arrayJoin({unsteady:Array(String)})) OR account IN (SELECT arrayJoin({moving_of:Array(String)}))))
WHERE ` + assetNamed + assetCut
)

// assetMoving are the assets of which something changes within a month.
const assetMoving = `
SELECT account, asset
FROM (` + assetHistory + `)
WHERE arrayExists(t -> t > {from:Int64} AND t < {to:Int64}, arrayConcat([known], arrayMap(x -> tupleElement(x, 1), types),
    arrayMap(x -> tupleElement(x, 1), trials), arrayMap(x -> tupleElement(x, 5), trials)))
ORDER BY account, asset
LIMIT {limit:UInt64}`

// Totals by whether plans change in the month, and by what is read record by record: nothing, what moves, or all.
const (
	totalsSteady      = totalsSteadyHead + piecesHead + assetSums + piecesTail + totalsSteadyTail
	totalsSteadyMoved = totalsSteadyHead + piecesHead + assetSumsMoved + piecesTail + totalsSteadyTail
	totalsSteadyAll   = totalsSteadyHead + piecesHead + assetRecords + piecesTail + totalsSteadyTail
	totalsMoved       = totalsHead + piecesHead + assetSumsMoved + piecesTail + totalsTail
	totalsAll         = totalsHead + piecesHead + assetRecords + piecesTail + totalsTail
)

const totalsHead = `
SELECT account, meter, region, trial, plan, segment, toString(sum(amount))
FROM
(
    SELECT p.account AS account, meter, region, trial, plan, amount, live, toUInt32(arrayCount(c -> c <= start, changes)) AS segment
    FROM (`

const totalsTail = `) AS p
    LEFT JOIN
    (
        SELECT tupleElement(pair, 1) AS account, tupleElement(pair, 2) AS changes
        FROM (SELECT arrayJoin(arrayZip({changed:Array(String)}, {changes:Array(Array(Int64))})) AS pair)
    ) AS c ON p.account = c.account
)
GROUP BY account, meter, region, trial, plan, segment
HAVING sum(live) > 0`

const totalsSteadyHead = `
SELECT account, meter, region, trial, plan, toUInt32(0) AS segment, toString(sum(amount))
FROM (`

const totalsSteadyTail = `)
GROUP BY account, meter, region, trial, plan
HAVING sum(live) > 0`

// assetPrints tells the rows behind totals apart: usage, pieces of usage, and what is said of assets.
const assetPrints = `
SELECT sum(rows), groupBitXor(hash)
FROM
(
    SELECT count() AS rows, groupBitXor(cityHash64(shard, seq, idx, sign)) AS hash FROM {{db}}.events WHERE ` + assetChosen + ` AND ` + assetMonth + `
    UNION ALL
    SELECT count() AS rows, groupBitXor(cityHash64(shard, seq, idx, sign, piece)) AS hash FROM {{db}}.pieces WHERE ` + assetChosen + ` AND ` + assetNear + `
    UNION ALL
    SELECT count() AS rows, groupBitXor(cityHash64(shard, seq, idx, sign, 'asset')) AS hash
    FROM {{db}}.directory_events
    WHERE tenant = {tenant:String} AND type IN ('asset.registered', 'asset.renamed', 'asset.trial_set')
        AND ({any_account:Bool} OR account IN (SELECT arrayJoin({accounts:Array(String)}))) AND ` + inCut + `
)`

// assetTotals are the sums of a month for some accounts, nil for all, and perhaps those of others; with the instants at
// which accounts change their plans. They are kept by what they were made from, as numbers of users are.
func (r *Reports) assetTotals(
	ctx context.Context, tenant string, m usage.Month, cut Cut, state *directory.State, meters map[string]directory.Meter, accounts []string,
) ([]assetTotal, map[string][]int64, error) {
	if len(accounts) > costAccountsMany {
		accounts = nil
	}
	params := assetParams(tenant, m, cut, state, meters, accounts)
	of := state.PlanChanges(m.Start().Millis(), m.End().Millis())
	changed, changes := []string{}, [][]int64{}
	asked := accounts
	if accounts == nil {
		asked = slices.Sorted(maps.Keys(of))
	}
	for _, id := range asked {
		if at := of[id]; at != nil {
			changed, changes = append(changed, id), append(changes, at)
		}
	}
	late, _ := params["late"].([]string)
	params["changed"], params["changes"], params["unsteady"] = changed, changes, slices.Concat(changed, late)
	name, err := r.assetName(ctx, tenant, m, cut, params)
	if err != nil {
		return nil, nil, err
	}
	if kept := r.assets.get(name); kept != nil && name != "" {
		return *kept, of, nil
	}
	all, err := r.sumAssets(ctx, params)
	if err != nil || name == "" {
		return all, of, err
	}
	return *r.assets.put(name, &all, 1+len(all)), of, nil
}

// assetName names the totals of a question by all that they depend on; "" where rows of the cut may still come.
func (r *Reports) assetName(ctx context.Context, tenant string, m usage.Month, cut Cut, params map[string]any) (string, error) {
	if cut.Shards == nil {
		return "", nil
	}
	asked := []any{}
	for _, parameter := range []string{"accounts", "meters", "late", "late_at", "changed", "changes"} {
		asked = append(asked, params[parameter])
	}
	text, err := json.Marshal(asked)
	if err != nil {
		return "", err
	}
	var of fingerprint
	err = r.query(ctx, "look for changes of the usage of assets", assetPrints, params, func(row warehouse.Rows) error { return row.Scan(&of.rows, &of.hash) })
	return fmt.Sprintf("%s %s %d %x %x", tenant, m, of.rows, of.hash, sha256.Sum256(text)), err
}

// sumAssets reads the totals.
func (r *Reports) sumAssets(ctx context.Context, params map[string]any) ([]assetTotal, error) {
	movingOf, moving := []string{}, []string{}
	params["limit"] = uint64(unsteadyMax + 1)
	err := r.query(ctx, "look for assets that change", assetMoving, params, func(row warehouse.Rows) error {
		var account, asset string
		err := row.Scan(&account, &asset)
		movingOf, moving = append(movingOf, account), append(moving, asset)
		return err
	})
	if err != nil {
		return nil, err
	}
	params["moving_of"], params["moving"] = movingOf, moving
	changed, _ := params["changed"].([]string)
	unsteady, _ := params["unsteady"].([]string)
	statement := totalsSteady
	switch {
	case len(moving) > unsteadyMax && len(changed) > 0:
		statement = totalsAll
	case len(moving) > unsteadyMax:
		statement = totalsSteadyAll
	case len(changed) > 0:
		statement = totalsMoved
	case len(moving)+len(unsteady) > 0:
		statement = totalsSteadyMoved
	}
	var all []assetTotal
	err = r.query(ctx, "sum the usage of assets", statement, params, func(row warehouse.Rows) error {
		var t assetTotal
		var quantity string
		err := row.Scan(&t.account, &t.meter, &t.region, &t.trial, &t.plan, &t.segment, &quantity)
		if err != nil {
			return err
		}
		t.quantity, err = wholeNumber(quantity)
		all = append(all, t)
		return err
	})
	return all, err
}
