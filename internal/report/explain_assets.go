package report

import (
	"cmp"
	"context"
	"math/big"
	"slices"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// explainedRecordsMax bounds the records behind a number of Secure Connect: they are cut one by one, in memory.
const explainedRecordsMax = 1_000_000

// explainedRecords are records of usage of assets, whole where the asset's own trial may cut them: as assetRecords,
// each with its event.
const explainedRecords = `
SELECT CAST(source, 'String') AS source_, id, CAST(account, 'String') AS account_, asset_id, CAST(region, 'String'), CAST(platform, 'String'), CAST(plan, 'String'),
    toUnixTimestamp64Milli(at) AS begins, begins + duration AS stops, toUnixTimestamp64Milli(recorded_at), toString(quantity), sign, trial, toUnixTimestamp64Milli(trial_expiry),
    shard, seq, idx
FROM {{db}}.events
WHERE ` + assetChosen + ` AND pieces <= 1 AND quantity >= 0 AND ` + assetMonth + ` AND ({asset:String} = '' OR asset_id = {asset:String})
UNION ALL
SELECT CAST(source, 'String') AS source_, id, CAST(account, 'String') AS account_, asset_id, CAST(region, 'String'), CAST(platform, 'String'), CAST(plan, 'String'),
    toUnixTimestamp64Milli(at) AS begins, begins AS stops, toUnixTimestamp64Milli(recorded_at), toString(quantity), sign, trial, toUnixTimestamp64Milli(trial_expiry),
    shard, seq, idx
FROM {{db}}.pieces
WHERE ` + assetChosen + ` AND quantity >= 0 AND ` + assetMonth + ` AND ({asset:String} = '' OR asset_id = {asset:String}) AND toUnixTimestamp64Milli(trial_expiry) != 0
UNION ALL
SELECT CAST(any(source), 'String') AS source_, any(id), CAST(any(account), 'String') AS account_, any(asset_id), CAST(any(region), 'String'), CAST(any(platform), 'String'),
    CAST(any(plan), 'String'), toUnixTimestamp64Milli(min(at)) AS begins, toUnixTimestamp64Milli(max(end_at)) AS stops, toUnixTimestamp64Milli(any(recorded_at)),
    toString(sum(toDecimal256(quantity, 9))), sign, false, toInt64(0), shard, seq, idx
FROM {{db}}.pieces
WHERE ` + assetChosen + ` AND ` + assetNear + ` AND ({asset:String} = '' OR asset_id = {asset:String}) AND toUnixTimestamp64Milli(trial_expiry) = 0
    AND (shard, seq, idx) IN (SELECT shard, seq, idx FROM {{db}}.pieces WHERE ` + assetChosen + ` AND ` + assetMonth + `)
GROUP BY shard, seq, idx, sign
LIMIT {limit:UInt64}`

// explainedAssets is what was said of assets, in the order in which it holds.
const explainedAssets = `
SELECT CAST(any(account), 'String') AS account_, JSONExtractString(any(data), 'asset_id') AS asset, CAST(any(type), 'String'), toUnixTimestamp64Milli(any(at)) AS happened,
    JSONExtractString(any(data), 'asset_type'), JSONExtractString(any(data), 'trial_expiry')
FROM {{db}}.directory_events
WHERE tenant = {tenant:String} AND type IN ('asset.registered', 'asset.trial_set') AND account IN (SELECT arrayJoin({accounts:Array(String)})) AND ` + inCut + `
GROUP BY source, id
HAVING sum(sign) > 0 AND ({asset:String} = '' OR asset = {asset:String})
ORDER BY account_, asset, happened, source, JSONExtractInt(any(data), 'source_seq'), id`

// assetRecord is a record of usage of an asset.
type assetRecord struct {
	Evidence
	begins, stops                 int64
	asset, region, platform, plan string
	quantity                      amount
	said                          bool  // it is under trial, by its own word:
	expiry                        int64 // 0: it says nothing of trials
}

// said is something that holds of an asset from an instant on.
type said[T any] struct {
	at    int64
	value T
}

// lastOf is what holds at an instant; the zero value where nothing was said by then.
func lastOf[T any](all []said[T], at int64) (value T) {
	for _, s := range all {
		if s.at <= at {
			value = s.value
		}
	}
	return value
}

// assetStory is what was said of an asset.
type assetStory struct {
	known bool
	since int64 // of its first registration
	types []said[string]
	ends  []said[int64] // of trials
}

// cuts are the instants within a record at which it is cut: midnights, and where a trial that was in force ends. One
// that is set anew exactly where it ended does not end there: what is said at an instant holds from that instant on.
func (a *assetStory) cuts(r *assetRecord) []int64 {
	var all []int64
	if r.expiry != 0 {
		return nil // it was cut when it was stored
	}
	for day := r.begins - mod(r.begins, dayMillis) + dayMillis; day < r.stops; day += dayMillis {
		all = append(all, day)
	}
	for i, end := range a.ends {
		inForce := end.value > end.at && (i+1 == len(a.ends) || a.ends[i+1].at > end.value)
		if inForce && end.value > r.begins && end.value < r.stops && !slices.Contains(all, end.value) {
			all = append(all, end.value)
		}
	}
	slices.Sort(all)
	return all
}

// assetsAsked is what usage of assets is asked for: of accounts, of a meter, within [from, to).
type assetsAsked struct {
	*metered
	params   map[string]any
	meter    directory.Meter
	stories  map[[2]string]*assetStory
	created  map[string]int64 // when the account was
	voided   map[Position]bool
	quantity amount // of all pieces that count
	all      []Evidence
}

// assetPiecesOf cuts every record of some assets into its pieces, as they count, and adds them up: from the events and
// what was said of the assets, one by one, where the report does so in a statement.
func (e *explanation) assetPiecesOf(ctx context.Context, m *metered) (*assetsAsked, error) {
	meters := assetMeters(e.state)
	asked := &assetsAsked{
		metered: m, meter: meters[m.meter], stories: map[[2]string]*assetStory{}, created: map[string]int64{}, voided: map[Position]bool{}, quantity: new(big.Int),
	}
	one := map[string]directory.Meter{}
	if asked.meter.Name != "" {
		one[m.meter] = asked.meter
	}
	for _, id := range m.accounts {
		if a, ok := e.state.Account(id, directory.Latest); ok {
			asked.created[id] = a.CreatedAt
		}
	}
	asked.params = assetParams(e.q.Tenant, e.month, e.cut, e.state, one, append([]string{}, m.accounts...))
	asked.params["asset"], asked.params["limit"] = m.asset, uint64(explainedRecordsMax+1)
	if err := e.assetStories(ctx, asked); err != nil {
		return nil, err
	}
	var records []*assetRecord
	err := e.query(ctx, "list the records", explainedRecords, asked.params, func(row warehouse.Rows) error {
		r := &assetRecord{Evidence: Evidence{Type: usage.TypeMetered, Status: Stored}}
		err := row.Scan(&r.Source, &r.ID, &r.Account, &r.asset, &r.region, &r.platform, &r.plan, &r.begins, &r.stops, (*int64)(&r.RecordedAt), &r.Quantity, &r.Sign,
			&r.said, &r.expiry, &r.Shard, &r.Seq, &r.Idx)
		if err != nil {
			return err
		}
		r.About = r.asset
		records = append(records, r)
		r.quantity, err = parseAmount(r.Quantity)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(records) > explainedRecordsMax {
		return nil, wrong("asset", "there are too many records behind this number to list them: ask for one asset of asset-usage-detail")
	}
	takenBack := map[[2]string]bool{}
	for _, r := range records {
		takenBack[[2]string{r.Source, r.ID}] = takenBack[[2]string{r.Source, r.ID}] || r.Sign < 0
	}
	for _, r := range records {
		if takenBack[[2]string{r.Source, r.ID}] {
			r.Status = Voided
		}
		e.cutRecord(asked, r)
	}
	slices.SortFunc(asked.all, compareEvidence)
	return asked, nil
}

// assetStories reads what was said of the assets.
func (e *explanation) assetStories(ctx context.Context, asked *assetsAsked) error {
	return e.query(ctx, "read what was said of the assets", explainedAssets, asked.params, func(row warehouse.Rows) error {
		var account, asset, kind, assetType, expiry string
		var at int64
		if err := row.Scan(&account, &asset, &kind, &at, &assetType, &expiry); err != nil {
			return err
		}
		story := asked.stories[[2]string{account, asset}]
		if story == nil {
			story = &assetStory{}
			asked.stories[[2]string{account, asset}] = story
		}
		if kind == "asset.registered" {
			if !story.known {
				story.known, story.since = true, at
			}
			story.types = append(story.types, said[string]{at, assetType})
			return nil
		}
		end, err := usage.ParseInstant(expiry)
		story.ends = append(story.ends, said[int64]{at, end.Millis()})
		return err
	})
}

// cutRecord cuts a record and counts its pieces that were asked for.
func (e *explanation) cutRecord(asked *assetsAsked, r *assetRecord) {
	story := asked.stories[[2]string{r.Account, r.asset}]
	if story == nil || !story.known {
		return
	}
	starts := append([]int64{r.begins}, story.cuts(r)...)
	rest := new(big.Int).Set(r.quantity)
	for i, start := range starts {
		share := new(big.Int).Set(rest)
		if i+1 < len(starts) {
			const millionth = 1000 // in billionths
			part := new(big.Int).Mul(r.quantity, big.NewInt(starts[i+1]-start))
			share = divide(part, (r.stops-r.begins)*millionth)
			share.Mul(share, big.NewInt(millionth))
			rest.Sub(rest, share)
		}
		if !e.pieceCounts(asked, story, r, start) {
			continue
		}
		share.Mul(share, big.NewInt(int64(r.Sign)))
		asked.quantity.Add(asked.quantity, share)
		piece := r.Evidence
		piece.At, piece.Counts = Instant(start), formatAmount(share)
		asked.all = append(asked.all, piece)
	}
}

// pieceCounts reports whether a piece that starts at an instant is usage that was asked for: of a known asset and
// account, and breaking no rule.
func (e *explanation) pieceCounts(asked *assetsAsked, story *assetStory, r *assetRecord, start int64) bool {
	created, known := asked.created[r.Account]
	if !known || start < asked.from || start >= asked.to || start < story.since || start < created {
		return false
	}
	if !slices.Contains([]string{"", "AF", "AP", "EU", "NA"}, r.region) || !slices.Contains([]string{"", "mcp", "azure"}, r.platform) {
		return false
	}
	if r.platform != "" && lastOf(story.types, start) == "USER" {
		return false
	}
	trial := r.said
	if r.expiry == 0 {
		trial = start < lastOf(story.ends, start)
	}
	k := key{meter: asked.meter.Name, account: r.Account, plan: r.plan, region: r.region, platform: r.platform, trial: trial}
	if k.plan == "" {
		k.plan = cmp.Or(e.state.UsagePlan(r.Account, k.meter, start), asked.meter.Plan)
	}
	return asked.fits(k)
}

// changed is the evidence that one list has and another has not, with what it adds to the difference of the two.
func changed(older, newer []Evidence) ([]Evidence, error) {
	type same struct {
		Position
		at     Instant
		sign   int8
		counts string
		about  string
	}
	of := func(v *Evidence) same { return same{v.Position, v.At, v.Sign, v.Counts, v.About} }
	left := map[same]int{}
	for i := range older {
		left[of(&older[i])]++
	}
	all := []Evidence{}
	for i := range newer {
		if k := of(&newer[i]); left[k] > 0 {
			left[k]--
			continue
		}
		all = append(all, newer[i])
	}
	for i := range older {
		v := older[i]
		if k := of(&v); left[k] > 0 {
			left[k]--
			if v.Counts != "" {
				var err error
				if v.Counts, err = minus("0", v.Counts); err != nil {
					return nil, err
				}
			}
			all = append(all, v)
		}
	}
	slices.SortStableFunc(all, func(a, b Evidence) int { return cmp.Compare(a.At, b.At) })
	return all, nil
}
