package report

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// assetRulingsMax bounds a listing of usage of assets that breaks a rule.
const assetRulingsMax = 10_000

// Rules of the usage of assets. Ingest refuses what says the type of its asset; of the rest only
// the kind of the meter, or the registration of the asset, says that the rule is there. Such a record is in no report
// of assets.
const (
	ruleAssetQuantity = directory.RulePrefix + directory.RuleAssetQuantity
	ruleAssetRegion   = directory.RulePrefix + directory.RuleAssetRegion
	ruleAssetPlatform = directory.RulePrefix + directory.RuleAssetPlatform
	ruleUserPlatform  = directory.RulePrefix + directory.RuleUserPlatform
)

// assetRulings are live records that break a rule, in the order of the log; of one event where a source is given.
const assetRulings = `
WITH (steps, instant) -> tupleElement(arrayLast(s -> tupleElement(s, 1) <= instant, steps), 5) AS last_of
SELECT source, id, CAST(u.account, 'String') AS account, toUnixTimestamp64Milli(at) AS happened, toUnixTimestamp64Milli(recorded_at), shard, seq, idx,
    CAST(meter, 'String') AS meter_, toString(quantity), CAST(region, 'String') AS region_, CAST(platform, 'String') AS platform_, asset_id,
    multiIf(quantity < 0, '` + ruleAssetQuantity + `', region NOT IN ('', 'AF', 'AP', 'EU', 'NA'), '` + ruleAssetRegion + `',
        platform NOT IN ('', 'mcp', 'azure'), '` + ruleAssetPlatform + `', '` + ruleUserPlatform + `') AS rule
FROM
(
    SELECT CAST(source, 'String') AS source, id, account, at, recorded_at, shard, seq, idx, meter, quantity, region, platform, asset_id
    FROM {{db}}.events
    WHERE ` + assetChosen + ` AND sign = 1 AND ({source:String} = '' OR source = {source:String} AND id = {id:String})
        AND (quantity < 0 OR region NOT IN ('', 'AF', 'AP', 'EU', 'NA') OR platform != '')
        AND (source, id) NOT IN (SELECT source, id FROM {{db}}.events WHERE ` + assetChosen + ` AND sign = -1)
) AS u
LEFT JOIN (` + assetHistory + `) AS a ON CAST(u.account, 'String') = a.account AND u.asset_id = a.asset
WHERE quantity < 0 OR region NOT IN ('', 'AF', 'AP', 'EU', 'NA') OR platform NOT IN ('', 'mcp', 'azure') OR last_of(a.types, happened) = 'USER'
ORDER BY shard, seq, idx
LIMIT {limit:UInt32}`

// assetRulings are the records of a tenant's assets that break a rule, as of now; with a source, that of one event.
func (r *Reports) assetRulings(ctx context.Context, tenant string, state *directory.State, source, id string) ([]directory.Ruling, error) {
	meters := assetMeters(state)
	if len(meters) == 0 {
		return nil, nil
	}
	params := Cut{AsOf: directory.Latest}.params(map[string]any{
		"tenant": tenant, "meters": slices.Sorted(maps.Keys(meters)), "any_account": true, "accounts": []string{}, "source": source, "id": id, "limit": assetRulingsMax,
	})
	details := map[string]string{
		ruleAssetQuantity: "the quantity of a meter of kind secure_connect must not be negative; void the wrong event instead",
		ruleAssetRegion:   "the region of a meter of kind secure_connect must be one of AF, AP, EU, NA",
		ruleAssetPlatform: "the platform of a meter of kind secure_connect must be mcp or azure",
		ruleUserPlatform:  "the asset is a USER, and platform is for bandwidth only",
	}
	var all []directory.Ruling
	err := r.query(ctx, "look for usage of assets that breaks a rule", assetRulings, params, func(row warehouse.Rows) error {
		u := directory.Ruling{Type: usage.TypeMetered}
		var data struct {
			Meter    string `json:"meter"`
			Quantity string `json:"quantity"`
			Region   string `json:"region,omitempty"`
			Platform string `json:"platform,omitempty"`
			Asset    struct {
				ID string `json:"id"`
			} `json:"asset"`
		}
		err := row.Scan(&u.Source, &u.ID, &u.Account, &u.At, &u.RecordedAt, &u.Shard, &u.Seq, &u.Idx,
			&data.Meter, &data.Quantity, &data.Region, &data.Platform, &data.Asset.ID, &u.Rule)
		if err != nil {
			return err
		}
		u.Detail = details[u.Rule]
		text, err := json.Marshal(data)
		all = append(all, u.Of(string(text)))
		return err
	})
	return all, err
}
