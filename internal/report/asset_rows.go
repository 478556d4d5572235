package report

import (
	"maps"
	"slices"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// The usage of assets (Secure Connect) is decided when it is read, piece by piece: which asset it is, whether that is
// under trial, and where it is cut.
//
// The history of assets is folded in SQL, like that of users: there may be as many. An asset is known from its
// first registration on; its name, its type and its trial's end are those that were said last. What an event says
// itself about its trial wins. A record is cut at UTC midnights and where the trial in force ends, whole records
// anew where the asset's own trial ends inside of one, so that the last piece takes the remainder.
// Everything is added up with its sign: what was voided leaves nothing behind.
//
// The view usage_api.asset_usage_v1 says the same in the same way; a test compares them row by row.

// assetHistory is one row per asset that was ever registered, as of the cut. Steps are (when, source, source_seq, id,
// value); ends are the instants at which a trial in force ended.
const assetHistory = `
SELECT owner AS account, asset,
    minIf(happened, kind = 'asset.registered') AS known,
    arraySort(groupArrayIf((happened, source, source_seq, id, name), kind != 'asset.trial_set')) AS names,
    arraySort(groupArrayIf((happened, source, source_seq, id, asset_type), kind = 'asset.registered')) AS types,
    arraySort(groupArrayIf((happened, source, source_seq, id, expiry), kind = 'asset.trial_set')) AS trials,
    arrayMap(i -> tupleElement(trials[i], 5), arrayFilter(i -> tupleElement(trials[i], 5) > tupleElement(trials[i], 1)
        AND (i = length(trials) OR tupleElement(trials[i + 1], 1) > tupleElement(trials[i], 5)), arrayEnumerate(trials))) AS ends
FROM
(
    SELECT CAST(any(account), 'String') AS owner, source, id, CAST(any(type), 'String') AS kind,
        toUnixTimestamp64Milli(any(at)) AS happened, any(data) AS d, JSONExtractString(d, 'asset_id') AS asset, JSONExtractInt(d, 'source_seq') AS source_seq,
        JSONExtractString(d, 'asset_name') AS name, JSONExtractString(d, 'asset_type') AS asset_type,
        if(kind = 'asset.trial_set', toUnixTimestamp64Milli(parseDateTime64BestEffortOrZero(JSONExtractString(d, 'trial_expiry'), 3, 'UTC')), 0) AS expiry
    FROM {{db}}.directory_events
    WHERE tenant = {tenant:String} AND type IN ('asset.registered', 'asset.renamed', 'asset.trial_set')
        AND ({any_account:Bool} OR account IN (SELECT arrayJoin({accounts:Array(String)}))) AND ` + inCut + `
    GROUP BY source, id
    HAVING sum(sign) > 0
)
GROUP BY owner, asset
HAVING countIf(kind = 'asset.registered') > 0`

// assetChosen are the conditions of every source of usage; meter first, because it leads the sorting keys.
const assetChosen = `tenant = {tenant:String} AND meter IN (SELECT arrayJoin({meters:Array(String)}))
        AND ({any_account:Bool} OR account IN (SELECT arrayJoin({accounts:Array(String)}))) AND ` + inCut

// assetNear bounds where the other pieces of a record can be: an event spans at most 400 days (usage.Limits).
const assetNear = `at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') - INTERVAL 400 DAY
        AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC') + INTERVAL 400 DAY`

const assetMonth = `at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')`

// assetRecords are records and pieces that may count in the month, amounts in billionths. Pieces were cut at
// midnights and by the event's own word; where the event said nothing they are put together again, to be cut where
// the asset's trial ends as well. A piece that begins in the month lies in a day of which the record has a stored
// piece.
const (
	assetRecords = assetWhole + assetCut
	assetWhole   = `
SELECT account, meter, asset_id AS asset, region, platform, plan, toUnixTimestamp64Milli(at) AS begins, begins + duration AS stops,
    toInt256(reinterpretAsInt128(quantity)) AS n, toInt64(sign) AS s, s AS live, trial AS said, toUnixTimestamp64Milli(trial_expiry) AS own
FROM {{db}}.events
WHERE ` + assetChosen + ` AND pieces <= 1 AND quantity >= 0 AND ` + assetMonth
	assetCut = `
UNION ALL
SELECT account, meter, asset_id AS asset, region, platform, plan, toUnixTimestamp64Milli(at) AS begins, begins AS stops,
    toInt256(reinterpretAsInt128(quantity)) AS n, toInt64(sign) AS s, s AS live, trial AS said, toUnixTimestamp64Milli(trial_expiry) AS own
FROM {{db}}.pieces
WHERE ` + assetChosen + ` AND quantity >= 0 AND ` + assetMonth + ` AND toUnixTimestamp64Milli(trial_expiry) != 0
UNION ALL
SELECT account, meter, asset_id AS asset, any(region) AS region, any(platform) AS platform, any(plan) AS plan,
    toUnixTimestamp64Milli(min(at)) AS begins, toUnixTimestamp64Milli(max(end_at)) AS stops,
    sum(toInt256(reinterpretAsInt128(quantity))) AS n, toInt64(sign) AS s, s AS live, false AS said, toInt64(0) AS own
FROM {{db}}.pieces
WHERE ` + assetChosen + ` AND ` + assetNear + ` AND toUnixTimestamp64Milli(trial_expiry) = 0
    AND (shard, seq, idx) IN (SELECT shard, seq, idx FROM {{db}}.pieces WHERE ` + assetChosen + ` AND ` + assetMonth + `)
GROUP BY shard, seq, idx, sign, account, meter, asset_id
HAVING n >= 0`
)

// assetPieces are the pieces that count: of known assets and accounts, in the month, breaking no rule. Everything that
// depends on the instant is that of the piece's start. A share is amount × part/whole in millionths, halves to the
// even one.
const assetPieces = piecesHead + assetRecords + piecesTail

const piecesHead = `
WITH (steps, instant) -> tupleElement(arrayLast(s -> tupleElement(s, 1) <= instant, steps), 5) AS last_of
SELECT account, meter, asset, region, platform, plan, tupleElement(piece, 1) AS start, tupleElement(piece, 2) * s AS amount, live,
    if(own != 0, own, last_of(trials, start)) AS expiry, if(own != 0, said, start < expiry) AS trial, names, types
FROM
(
    SELECT account, meter, asset, region, platform, plan, s, live, said, own, known, names, types, trials,
        arrayMap(p -> intDiv(p, unit), products) AS floors,
        arrayMap((p, f) -> 2 * (p - f * unit), products, floors) AS rests,
        arrayMap((f, r) -> (f + (r > unit OR r = unit AND f % 2 = 1)) * 1000, floors, rests) AS shares,
        arrayJoin(arrayZip(starts, arrayPushBack(shares, n - arraySum(shares)))) AS piece
    FROM
    (
        SELECT CAST(r.account, 'String') AS account, CAST(r.meter, 'String') AS meter, r.asset AS asset, CAST(r.region, 'String') AS region,
            CAST(r.platform, 'String') AS platform, CAST(r.plan, 'String') AS plan, r.s AS s, r.live AS live, r.said AS said, r.own AS own,
            a.known AS known, a.names AS names, a.types AS types, a.trials AS trials, r.n AS n, toInt256(r.stops - r.begins) * 1000 AS unit,
            if(r.own != 0 OR r.stops <= r.begins, [], arraySort(arrayDistinct(arrayConcat(
                arrayFilter(x -> x > r.begins AND x < r.stops, a.ends),
                arrayMap(day -> (intDiv(r.begins, 86400000) + 1 + toInt64(day)) * 86400000,
                    range(toUInt64(intDiv(r.stops - 1, 86400000) - intDiv(r.begins, 86400000)))))))) AS borders,
            arrayPushFront(borders, r.begins) AS starts,
            arrayMap((x, y) -> n * (y - x), arrayPopBack(starts), borders) AS products
        FROM (`

const piecesTail = `) AS r
        INNER JOIN (` + assetHistory + `) AS a ON CAST(r.account, 'String') = a.account AND r.asset = a.asset
    )
)
WHERE start >= {from:Int64} AND start < {to:Int64} AND known <= start
    AND start >= transform(account, {late:Array(String)}, {late_at:Array(Int64)}, toInt64(-9223372036854775808))
    AND region IN ('', 'AF', 'AP', 'EU', 'NA') AND platform IN ('', 'mcp', 'azure')
    AND NOT (platform != '' AND last_of(types, start) = 'USER')`

// assetMeters are the meters whose usage belongs to assets.
func assetMeters(state *directory.State) map[string]directory.Meter {
	meters := map[string]directory.Meter{}
	for _, m := range state.Meters() {
		if m.Kind == directory.KindSecureConnect {
			meters[m.Name] = m
		}
	}
	return meters
}

// assetParams are the parameters of assetPieces for some accounts of a month; nil is all there are.
func assetParams(tenant string, m usage.Month, cut Cut, state *directory.State, meters map[string]directory.Meter, accounts []string) map[string]any {
	asked := accounts
	if asked == nil {
		asked = state.Accounts(m.End().Millis() - 1)
	}
	late, since := []string{}, []int64{}
	for _, id := range asked {
		if a, ok := state.Account(id, directory.Latest); ok && a.CreatedAt > m.Start().Millis() {
			late, since = append(late, id), append(since, a.CreatedAt)
		}
	}
	return cut.params(map[string]any{
		"tenant": tenant, "from": m.Start().Millis(), "to": m.End().Millis(), "meters": slices.Sorted(maps.Keys(meters)),
		"any_account": accounts == nil, "accounts": append([]string{}, accounts...), "late": late, "late_at": since,
	})
}
