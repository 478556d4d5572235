package register

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

const (
	// foldVersion is raised with every change of what the fold or the tables say of the same events.
	foldVersion = 1
	// togetherEvents bounds the events whose tenants are written together; a larger tenant is written alone.
	togetherEvents = 200_000
	// projectWait bounds folding and writing one group. It is much less than abandoned.
	projectWait = 3 * time.Minute
)

// kept is a tenant's fold on its way to the tables.
type kept struct {
	tenant         string
	data           uint64 // number of the fold
	state          *directory.State
	events         int
	print, content uint64
	contested      int
	shard          uint16 // the fold has the events up to here
	seq            uint64
	again          bool // the tables have the same already, under data
	rows           uint64
}

// Project folds the directories of tenants, as far as the log is counted, and writes the tables.
func Project(ctx context.Context, db *warehouse.Warehouse, tenants []string, upTo Cut) error {
	return project(ctx, db, tenants, upTo, nil)
}

// project writes those that are named in anew even if the tables seem to say the same.
func project(ctx context.Context, db *warehouse.Warehouse, tenants []string, upTo Cut, anew map[string]bool) error {
	var group []*kept
	events := 0
	for i, tenant := range tenants {
		k, err := fold(ctx, db, tenant, upTo)
		if err != nil {
			return fmt.Errorf("fold the directory of tenant %s: %w", tenant, err)
		}
		if err := k.number(ctx, db, anew[tenant]); err != nil {
			return err
		}
		group, events = append(group, k), events+k.events
		if events < togetherEvents && i+1 < len(tenants) {
			continue
		}
		if err := write(ctx, db, group); err != nil {
			return fmt.Errorf("write the directory of %d tenants: %w", len(group), err)
		}
		group, events = nil, 0
	}
	return nil
}

const readEvents = `
SELECT type, source, id, account, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), sign, data, shard, seq, idx,
    cityHash64(shard, seq, idx, sign)
FROM {{db}}.directory_events
WHERE tenant = {tenant:String} AND type IN {types:Array(String)}
    AND seq <= transform(shard, {shards:Array(UInt16)}, {seqs:Array(UInt64)}, {rest:UInt64})`

const readNewest = `
SELECT data, version, content, rows
FROM {{db}}.directory_newest
WHERE tenant = {tenant:String}`

func fold(ctx context.Context, db *warehouse.Warehouse, tenant string, upTo Cut) (*kept, error) {
	k := &kept{tenant: tenant}
	k.shard, k.seq = upTo.last()
	var events []directory.Event
	sum := fnv.New64a()
	core, tree := uint64(0), map[string]bool{}
	for _, typ := range directory.TreeTypes() {
		tree[typ] = true
	}
	params := upTo.params(map[string]any{"tenant": tenant, "types": directory.Types()})
	err := read(ctx, db, "read the directory", readEvents, params, func(e directory.Event, hash uint64) {
		k.print ^= hash
		if tree[e.Type] {
			core ^= hash
		}
		if upTo == nil && (e.Shard > k.shard || e.Shard == k.shard && e.Seq > k.seq) {
			k.shard, k.seq = e.Shard, e.Seq
		}
		events = append(events, e)
	})
	if err != nil {
		return nil, err
	}
	k.events = len(events)
	state := directory.Fold(events, directory.Latest)
	shrunk := state.Shrunk()
	if len(shrunk) > 0 { // a rule wants to know what is in use
		certificates, err := certificates(ctx, db, upTo, tenant, shrunk)
		if err != nil {
			return nil, err
		}
		state = directory.Fold(append(events, certificates...), directory.Latest)
	}
	if k.state, k.contested, err = judge(ctx, db, tenant, state); err != nil {
		return nil, err
	}
	k.contested += len(shrunk)
	// The tables follow from the events of the tree, from the rulings, and from the usage that decides about meters.
	fmt.Fprintln(sum, core)
	for i := range k.state.Rulings() {
		r := &k.state.Rulings()[i]
		fmt.Fprintln(sum, r.Shard, r.Seq, r.Idx, r.Rule, r.Detail)
	}
	k.content = sum.Sum64()
	return k, nil
}

const readCertificates = readEvents + `
    AND JSONExtractString(data, 'subscription_id') IN (SELECT arrayJoin({subscriptions:Array(String)}))`

// certificates are the events about certificates of some subscriptions.
func certificates(ctx context.Context, db *warehouse.Warehouse, upTo Cut, tenant string, subscriptions []string) ([]directory.Event, error) {
	var events []directory.Event
	params := upTo.params(map[string]any{"tenant": tenant, "types": directory.CertificateTypes(), "subscriptions": subscriptions})
	err := read(ctx, db, "read the certificates of subscriptions", readCertificates, params, func(e directory.Event, _ uint64) {
		events = append(events, e)
	})
	return events, err
}

// read gives each the events that readEvents, or a statement made of it, answers, with the hash of where they stand.
func read(ctx context.Context, db *warehouse.Warehouse, what, sql string, params map[string]any, each func(e directory.Event, hash uint64)) error {
	return query(ctx, db, what, sql, params, func(row warehouse.Rows) error {
		var e directory.Event
		var sign int8
		var hash uint64
		if err := row.Scan(&e.Type, &e.Source, &e.ID, &e.Account, &e.At, &e.RecordedAt, &sign, &e.Data, &e.Shard, &e.Seq, &e.Idx, &hash); err != nil {
			return err
		}
		e.Void = sign < 0
		each(e, hash)
		return nil
	})
}

// number gives the fold the number of the one that the tables show, if it says the same, else one of its own: the
// time, by which abandoned rows are known, and chance.
func (k *kept) number(ctx context.Context, db *warehouse.Warehouse, anew bool) error {
	var chance [8]byte
	_, _ = rand.Read(chance[:]) // never fails
	k.data = uint64(time.Now().UnixMilli())<<chanceBits | binary.LittleEndian.Uint64(chance[:])&(1<<chanceBits-1)
	if anew {
		return nil
	}
	return query(ctx, db, "read the newest generation", readNewest, map[string]any{"tenant": k.tenant}, func(row warehouse.Rows) error {
		var data, content, rows uint64
		var version uint16
		if err := row.Scan(&data, &version, &content, &rows); err != nil {
			return err
		}
		if version == foldVersion && content == k.content && k.contested == 0 {
			k.data, k.rows, k.again = data, rows, true
		}
		return nil
	})
}

// chanceBits of a number are chance, the others Unix milliseconds.
const chanceBits = 21

// firstUse is the first instant of live usage of a meter: the order of `events` has it at the front.
const firstUse = `
SELECT toUnixTimestamp64Milli(at)
FROM {{db}}.events
WHERE tenant = {tenant:String} AND meter = {meter:String} AND sign = 1 AND at < fromUnixTimestamp64Milli({before:Int64}, 'UTC')
    AND (source, id) NOT IN (SELECT source, id FROM {{db}}.events WHERE tenant = {tenant:String} AND meter = {meter:String} AND sign = -1)
ORDER BY at
LIMIT 1`

// judge asks usage about meters that are defined in more than one way.
func judge(ctx context.Context, db *warehouse.Warehouse, tenant string, state *directory.State) (*directory.State, int, error) {
	used := map[string]int64{}
	open := state.Contested()
	for meter, before := range open {
		params := map[string]any{"tenant": tenant, "meter": meter, "before": before}
		err := query(ctx, db, "look for the first use of meter "+meter, firstUse, params, func(row warehouse.Rows) error {
			var at int64
			err := row.Scan(&at)
			used[meter] = at
			return err
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return state.Judge(used), len(open), nil
}

const insertGenerations = `
INSERT INTO {{db}}.directory_generations (tenant, data, shard, seq, at, version, events, print, content, contested, accounts, rulings, rows)`

// write stores the rows of a group, and then the generations that make them seen.
func write(ctx context.Context, db *warehouse.Warehouse, group []*kept) error {
	ctx, cancel := context.WithTimeout(ctx, projectWait)
	defer cancel()
	started := time.Now()
	for _, t := range tables() {
		err := db.Store(ctx, t.insert, func(add func(values ...any) error) error {
			for _, k := range group {
				if k.again {
					continue
				}
				if err := t.fill(k, func(values ...any) error { k.rows++; return add(values...) }); err != nil {
					return fmt.Errorf("tenant %s: %w", k.tenant, err)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		faultpoint.Hit("register/stored")
	}
	if time.Since(started) > projectWait {
		return errSlow
	}
	return db.Store(ctx, insertGenerations, func(add func(values ...any) error) error {
		for _, k := range group {
			err := add(k.tenant, k.data, k.shard, k.seq, started.UTC(), uint16(foldVersion), uint64(k.events), k.print, k.content, uint32(k.contested),
				uint64(len(k.state.Accounts(directory.Latest))), uint64(len(k.state.Rulings())), k.rows)
			if err != nil {
				return err
			}
		}
		return nil
	})
}
