// Package register keeps the folded directory as tables, for everything that is asked of it in SQL.
//
// Guarantee: the tables show one fold of a tenant's directory, whole, and a second after an event is counted they
// show one that has it. A fold is written under a number of its own and is seen when its row of
// directory_generations is there, which comes last: a crash at any instruction leaves the old one or the new one.
// Two writers at once leave two whole ones, and readers take that of the higher position in the log.
//
// The package decides nothing: the rules are internal/directory's. What it writes is a cache of directory_events,
// compared with them whenever an aggregator takes a partition, and folded again where it differs. It never holds
// usage up: it runs beside the session, waits after each fold nine times as long as the fold took, and an error of
// it is tried again and ends nothing.
package register

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

const (
	// gather is how long the first event of a quiet time waits for others of its kind.
	gather = 250 * time.Millisecond
	// rest is the least time between the ends of two rounds and their next; a round that took long is followed by
	// restShare times as long, so that folding takes a tenth of a core at most.
	rest      = time.Second
	restShare = 9
	// Pauses after an error.
	retryFirst, retryMost = 500 * time.Millisecond, 30 * time.Second
	// cleanEvery is how often folds that nobody reads any more are removed. What usage or certificates decide (which
	// definition of a meter holds, whether an inventory may shrink) is looked at as often.
	cleanEvery = 5 * time.Minute
)

// Register folds the tenants of a partition of the log.
type Register struct {
	db        *warehouse.Warehouse
	partition uint16
	upTo      func() Cut
	zap       *zap.Logger

	mu      sync.Mutex
	touched map[string]bool // true: whatever the tables say, they are not to be relied on
	wake    chan struct{}
}

// Cut is how far the log is counted, by shard; nil: everything there is.
type Cut map[uint16]uint64

// New keeps the tenants of a partition; upTo says how far its shards are counted.
func New(db *warehouse.Warehouse, partition uint16, upTo func() Cut, log *zap.Logger) *Register {
	return &Register{db: db, partition: partition, upTo: upTo, zap: log, touched: map[string]bool{}, wake: make(chan struct{}, 1)}
}

// Types are the types of events that change the fold.
func Types() map[string]bool {
	types := map[string]bool{}
	for _, t := range directory.Types() {
		types[t] = true
	}
	return types
}

// Touch says that events of these tenants' directories have been counted.
func (k *Register) Touch(tenants map[string]bool) {
	if len(tenants) == 0 {
		return
	}
	k.mu.Lock()
	for tenant := range tenants {
		if _, known := k.touched[tenant]; !known {
			k.touched[tenant] = false
		}
	}
	k.mu.Unlock()
	k.rouse()
}

// doubt says that the tables of these tenants are to be written whatever they say now.
func (k *Register) doubt(tenants map[string]bool) {
	if len(tenants) == 0 {
		return
	}
	k.mu.Lock()
	for tenant := range tenants {
		k.touched[tenant] = true
	}
	k.mu.Unlock()
	k.rouse()
}

func (k *Register) rouse() {
	select {
	case k.wake <- struct{}{}:
	default: // awake already
	}
}

// Run folds what was touched until ctx ends, beginning with what is behind.
func (k *Register) Run(ctx context.Context) {
	k.persist(ctx, "directory not compared with its tables; trying again", func() error { return k.touchBehind(ctx) })
	clean := time.NewTicker(cleanEvery)
	defer clean.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-clean.C:
			k.tidy(ctx)
			continue
		case <-k.wake:
		}
		if !wait(ctx, gather) {
			return
		}
		var started time.Time // of the last try: the time that a server was away asks for no rest
		k.persist(ctx, "directory not written to its tables; trying again", func() error { started = time.Now(); return k.round(ctx) })
		if !wait(ctx, max(rest, restShare*time.Since(started))) {
			return
		}
	}
}

// round folds everything that is touched now; what fails stays touched.
func (k *Register) round(ctx context.Context) error {
	k.mu.Lock()
	tenants := k.touched
	k.touched = map[string]bool{}
	k.mu.Unlock()
	err := project(ctx, k.db, slices.Sorted(maps.Keys(tenants)), k.upTo(), tenants)
	if err != nil {
		k.mu.Lock()
		for tenant, anew := range tenants {
			k.touched[tenant] = k.touched[tenant] || anew
		}
		k.mu.Unlock()
	}
	return err
}

// persist does something until it succeeds or ctx ends.
func (k *Register) persist(ctx context.Context, trouble string, do func() error) {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		err := do()
		if err == nil || ctx.Err() != nil {
			return
		}
		k.zap.Warn(trouble, zap.Error(err), zap.Duration("pause", pause))
		if !wait(ctx, pause) {
			return
		}
	}
}

// tidy removes what nobody reads, and looks at what other events decide.
func (k *Register) tidy(ctx context.Context) {
	err := Clean(ctx, k.db, k.partition, time.Now())
	if err == nil {
		err = k.touchContested(ctx)
	}
	if err != nil && ctx.Err() == nil {
		k.zap.Warn("tables of the directory not tidied; later", zap.Error(err))
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// What the events say and what the tables were made from, where they differ. Tables that lost rows differ too.
const behind = `
SELECT e.tenant
FROM
(
    SELECT CAST(tenant, 'String') AS tenant, count() AS events, groupBitXor(cityHash64(shard, seq, idx, sign)) AS print
    FROM {{db}}.directory_events
    WHERE bitAnd(shard, 1023) = {partition:UInt16} AND type IN {types:Array(String)}
        AND seq <= transform(shard, {shards:Array(UInt16)}, {seqs:Array(UInt64)}, {rest:UInt64})
    GROUP BY tenant
) AS e
LEFT JOIN (SELECT CAST(tenant, 'String') AS tenant, data, version, events, print, rows FROM {{db}}.directory_newest) AS n ON e.tenant = n.tenant
LEFT JOIN
(
    SELECT tenant, data, sum(n) AS rows
    FROM
    (
        SELECT CAST(tenant, 'String') AS tenant, data, count() AS n FROM {{db}}.directory_accounts GROUP BY tenant, data
        UNION ALL SELECT CAST(tenant, 'String') AS tenant, data, count() AS n FROM {{db}}.directory_steps GROUP BY tenant, data
        UNION ALL SELECT CAST(tenant, 'String') AS tenant, data, count() AS n FROM {{db}}.directory_plans GROUP BY tenant, data
        UNION ALL SELECT CAST(tenant, 'String') AS tenant, data, count() AS n FROM {{db}}.directory_trees GROUP BY tenant, data
        UNION ALL SELECT CAST(tenant, 'String') AS tenant, data, count() AS n FROM {{db}}.directory_meters GROUP BY tenant, data
        UNION ALL SELECT CAST(tenant, 'String') AS tenant, data, count() AS n FROM {{db}}.directory_rulings GROUP BY tenant, data
    )
    GROUP BY tenant, data
) AS r ON n.tenant = r.tenant AND n.data = r.data
WHERE e.events != n.events OR e.print != n.print OR n.version != {version:UInt16} OR n.rows != r.rows`

func (k *Register) touchBehind(ctx context.Context) error {
	params := k.upTo().params(map[string]any{"partition": k.partition, "types": directory.Types(), "version": uint16(foldVersion)})
	found, err := k.tenants(ctx, "compare the directory with its tables", behind, params)
	k.doubt(found)
	return err
}

const contested = `
SELECT CAST(tenant, 'String')
FROM {{db}}.directory_newest
WHERE contested > 0 AND bitAnd(shard, 1023) = {partition:UInt16}`

func (k *Register) touchContested(ctx context.Context) error {
	found, err := k.tenants(ctx, "look for contested folds", contested, map[string]any{"partition": k.partition})
	k.Touch(found)
	return err
}

// tenants are what a statement answers.
func (k *Register) tenants(ctx context.Context, what, sql string, params map[string]any) (map[string]bool, error) {
	found := map[string]bool{}
	err := query(ctx, k.db, what, sql, params, func(row warehouse.Rows) error {
		var tenant string
		err := row.Scan(&tenant)
		found[tenant] = true
		return err
	})
	return found, err
}

// params are the parameters that bound rows by position.
func (c Cut) params(into map[string]any) map[string]any {
	shards, seqs := warehouse.Positions(c)
	into["shards"], into["seqs"], into["rest"] = shards, seqs, uint64(0)
	if c == nil {
		into["rest"] = uint64(1<<64 - 1)
	}
	return into
}

// last is the highest position of a cut: that of the newest shard.
func (c Cut) last() (shard uint16, seq uint64) {
	for s, q := range c {
		if s >= shard {
			shard, seq = s, q
		}
	}
	return shard, seq
}

func query(ctx context.Context, db *warehouse.Warehouse, what, sql string, params map[string]any, scan func(warehouse.Rows) error) error {
	args := make([]any, 0, len(params))
	for name, value := range params {
		args = append(args, warehouse.Named(name, value))
	}
	if err := db.Query(ctx, sql, args, scan); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// errSlow says that a fold took so long that its rows may be taken for abandoned.
var errSlow = errors.New("writing the directory took too long")
