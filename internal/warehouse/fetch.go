package warehouse

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/ext"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// FetchMax is the most rows one FetchEvents takes.
const FetchMax = 10_000

// Fetched is a whole row of `events`, with its pieces if it was cut into two or more.
type Fetched struct {
	EventRow
	Cut []PieceRow // by piece number, of the row's sign
}

// rowKey tells rows apart: a position holds an event and at most one negation of another identity.
type rowKey struct {
	Position
	sign               int8
	tenant, source, id string
}

// FetchEvents reads whole rows, in the order asked for: what a negation copies. Of each Stored it uses
// the key, the position and the sign. A row that is not there is an error: rows of `events` are for ever.
func (w *Warehouse) FetchEvents(ctx context.Context, rows []Stored) ([]Fetched, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	if len(rows) > FetchMax {
		return nil, fmt.Errorf("fetch %d rows: at most %d at once", len(rows), FetchMax)
	}
	wanted, err := ext.NewTable("wanted", ext.Column("k", "UInt32"))
	if err != nil {
		return nil, fmt.Errorf("prepare a fetch: %w", err)
	}
	place := make(map[rowKey]int, len(rows))
	for i := range rows {
		r := &rows[i]
		if err := wanted.Append(keyOf(r.Hash)); err != nil {
			return nil, fmt.Errorf("prepare a fetch: %w", err)
		}
		place[rowKey{r.Position, r.Sign, r.Tenant, r.Source, r.ID}] = i
	}
	found := make([]Fetched, len(rows))
	got := 0
	err = w.Query(clickhouse.Context(ctx, clickhouse.WithExternalTable(wanted)), fetchEvents, nil, func(s Rows) error {
		var e EventRow
		if err := scanEvent(s, &e); err != nil {
			return err
		}
		if i, ok := place[rowKey{e.Position, e.Sign, e.Tenant, e.Source, e.ID}]; ok {
			found[i].EventRow = e
			got++
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("fetch %d rows: %w", len(rows), err)
	}
	if got != len(place) || len(place) != len(rows) {
		return nil, fmt.Errorf("fetch %d rows, %d different: %d were found", len(rows), len(place), got)
	}
	return found, w.fetchCut(ctx, found, place)
}

// fetchCut adds the pieces of rows that were cut.
func (w *Warehouse) fetchCut(ctx context.Context, found []Fetched, place map[rowKey]int) error {
	wanted, err := ext.NewTable("wanted", ext.Column("tenant", "String"), ext.Column("meter", "String"),
		ext.Column("account", "String"), ext.Column("at", "DateTime64(3, 'UTC')"))
	if err != nil {
		return fmt.Errorf("prepare a fetch of pieces: %w", err)
	}
	cut := 0
	for i := range found {
		if e := &found[i]; e.Pieces > 1 {
			cut++
			if err := wanted.Append(e.Tenant, e.Meter, e.Account, e.At.Time()); err != nil {
				return fmt.Errorf("prepare a fetch of pieces: %w", err)
			}
		}
	}
	if cut == 0 {
		return nil
	}
	err = w.Query(clickhouse.Context(ctx, clickhouse.WithExternalTable(wanted)), fetchPieces, nil, func(s Rows) error {
		var p PieceRow
		if err := scanPiece(s, &p); err != nil {
			return err
		}
		if i, ok := place[rowKey{p.Position, p.Sign, p.Tenant, p.Source, p.ID}]; ok {
			found[i].Cut = append(found[i].Cut, p)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("fetch pieces: %w", err)
	}
	for i := range found {
		if e := &found[i]; e.Pieces > 1 && len(e.Cut) != int(e.Pieces) {
			return fmt.Errorf("fetch pieces: event %s %s of tenant %s has %d of %d", e.Source, e.ID, e.Tenant, len(e.Cut), e.Pieces)
		}
	}
	return nil
}

const fetchEvents = `
SELECT shard, seq, idx, sign, tenant, source, id, content_hash, type, account,
    toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(reported_at), toUnixTimestamp64Milli(recorded_at),
    toUnixTimestamp64Milli(accepted_at), toUnixTimestamp64Milli(written_at),
    correlation_id, causation_id, meter, toString(quantity), unit, asset_id, asset_name, asset_type,
    toUnixTimestamp64Milli(end_at), pieces, toUnixTimestamp64Milli(trial_expiry), trial, region, platform,
    consumer_type, consumer_id, item, item_version, plan, dimensions, data, extensions, void_effect
FROM {{db}}.events
WHERE id_key IN (SELECT k FROM wanted)
SETTINGS min_table_rows_to_use_projection_index = 0, max_projection_rows_to_use_projection_index = 1000000000000`

func scanEvent(s Rows, e *EventRow) error {
	var at, reported, recorded, accepted, written, end, trial int64
	var quantity string
	var dimensions map[string]string
	err := s.Scan(&e.Shard, &e.Seq, &e.Idx, &e.Sign, &e.Tenant, &e.Source, &e.ID, &e.ContentHash, &e.Type, &e.Account,
		&at, &reported, &recorded, &accepted, &written,
		&e.CorrelationID, &e.CausationID, &e.Meter, &quantity, &e.Unit, &e.AssetID, &e.AssetName, &e.AssetType,
		&end, &e.Pieces, &trial, &e.Trial, &e.Region, &e.Platform,
		&e.ConsumerType, &e.ConsumerID, &e.Item, &e.ItemVersion, &e.Plan, &dimensions, &e.Data, &e.Extensions, &e.VoidEffect)
	if err != nil {
		return err
	}
	e.IDHash = usage.IdentityHash(e.Tenant, usage.Identity{Source: e.Source, ID: e.ID})
	e.At, e.ReportedAt, e.RecordedAt = millis(at), millis(reported), millis(recorded)
	e.AcceptedAt, e.WrittenAt, e.TrialExpiry = millis(accepted), millis(written), optional(trial)
	if e.Pieces > 0 {
		e.EndAt = millis(end)
	}
	e.Dimensions = sorted(dimensions)
	e.Quantity, err = usage.ParseQuantity([]byte(quantity))
	return err
}

// fetchPieces finds the pieces of the wanted events: the first piece starts where the event does, the
// others later, within the longest span an event may have.
const fetchPieces = `
SELECT shard, seq, idx, piece, sign, tenant, source, id, account,
    toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(end_at), toUnixTimestamp64Milli(recorded_at), meter, toString(quantity),
    asset_id, asset_name, asset_type, toUnixTimestamp64Milli(trial_expiry), trial, region, platform,
    consumer_type, consumer_id, item, plan, dimensions
FROM {{db}}.pieces
WHERE (tenant, meter, account) IN (SELECT tenant, meter, account FROM wanted)
    AND at >= (SELECT min(at) FROM wanted) AND at <= (SELECT max(at) FROM wanted) + INTERVAL 400 DAY
ORDER BY shard, seq, idx, piece`

func scanPiece(s Rows, p *PieceRow) error {
	var at, end, recorded, trial int64
	var quantity string
	var dimensions map[string]string
	err := s.Scan(&p.Shard, &p.Seq, &p.Idx, &p.Piece, &p.Sign, &p.Tenant, &p.Source, &p.ID, &p.Account,
		&at, &end, &recorded, &p.Meter, &quantity,
		&p.AssetID, &p.AssetName, &p.AssetType, &trial, &p.Trial, &p.Region, &p.Platform,
		&p.ConsumerType, &p.ConsumerID, &p.Item, &p.Plan, &dimensions)
	if err != nil {
		return err
	}
	p.At, p.EndAt, p.RecordedAt, p.TrialExpiry = millis(at), millis(end), millis(recorded), optional(trial)
	p.Dimensions = sorted(dimensions)
	p.Quantity, err = usage.ParseQuantity([]byte(quantity))
	return err
}

// millis is the instant ms milliseconds after the epoch.
func millis(ms int64) usage.Instant { return usage.At(ms * 1e6) }

// optional is millis, where the epoch stands for an absent instant.
func optional(ms int64) usage.Instant {
	if ms == 0 {
		return usage.Instant{}
	}
	return millis(ms)
}

func sorted(dimensions map[string]string) []usage.Dimension {
	var all []usage.Dimension
	for _, k := range slices.Sorted(maps.Keys(dimensions)) {
		all = append(all, usage.Dimension{Key: k, Value: dimensions[k]})
	}
	return all
}
