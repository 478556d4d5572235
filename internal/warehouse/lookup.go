package warehouse

import (
	"context"
	"fmt"
	"strconv"

	"github.com/ClickHouse/ch-go/proto"
)

// LookupMax is the most identities one Lookup takes: they travel as one small table.
const LookupMax = 20_000

// partitionMask takes the log's partition out of a shard number; the rest is the incarnation.
const partitionMask = 1<<10 - 1

// Key is an identity to look for. Hash is usage.IdentityHash of the rest.
type Key struct {
	Tenant, Source, ID string
	Hash               uint64
}

// Stored is a row of `events` with a wanted identity, of either sign. Whether it is evidence is the
// caller's rule: sign 1 and a position before the event's own (ADR 0003).
type Stored struct {
	Key // the caller's, equal to the row's
	Position
	Sign        int8
	ContentHash uint64
	Type        string
}

// lookupResult is the columns of Lookup's answer.
type lookupResult struct {
	key, idx                proto.ColUInt32
	tenant, source, id, typ proto.ColStr
	shard                   proto.ColUInt16
	seq, contentHash        proto.ColUInt64
	sign                    proto.ColInt8
}

// Lookup finds the stored rows of up to LookupMax identities, in all incarnations of a partition, in
// no particular order. The projection by_identity finds candidates by half a hash; the identities
// themselves are compared here, so a chance collision is never taken for a duplicate.
func (w *Warehouse) Lookup(ctx context.Context, partition uint16, keys []Key) ([]Stored, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	if len(keys) > LookupMax {
		return nil, fmt.Errorf("look up %d identities: at most %d at once", len(keys), LookupMax)
	}
	wanted := make(map[uint32][]int, len(keys))
	var search proto.ColUInt32
	for i := range keys {
		k := keyOf(keys[i].Hash)
		if wanted[k] == nil {
			search = append(search, k)
		}
		wanted[k] = append(wanted[k], i)
	}
	var c lookupResult
	var found []Stored
	seen := make(interned)
	const sql = `
SELECT id_key, CAST(tenant, 'String') AS tenant_, CAST(source, 'String') AS source_, id, sign, shard, seq, idx, content_hash,
    CAST(type, 'String') AS type_
FROM {{db}}.events
WHERE id_key IN (SELECT k FROM wanted) AND bitAnd(shard, 1023) = `
	err := w.read(ctx, bulk{
		sql:    sql + strconv.Itoa(int(partition&partitionMask)),
		wanted: proto.Input{{Name: "k", Data: search}},
		result: proto.Results{
			column("id_key", &c.key), column("tenant_", &c.tenant), column("source_", &c.source), column("id", &c.id),
			column("sign", &c.sign), column("shard", &c.shard), column("seq", &c.seq), column("idx", &c.idx),
			column("content_hash", &c.contentHash), column("type_", &c.typ),
		},
		each: func(rows int) error {
			for i := range rows {
				for _, n := range wanted[c.key[i]] {
					k := &keys[n]
					if string(c.id.RowBytes(i)) != k.ID || string(c.tenant.RowBytes(i)) != k.Tenant || string(c.source.RowBytes(i)) != k.Source {
						continue
					}
					found = append(found, Stored{
						Key: *k, Position: Position{Shard: c.shard[i], Seq: c.seq[i], Idx: c.idx[i]}, Sign: c.sign[i], ContentHash: c.contentHash[i],
						Type: seen.word(c.typ.RowBytes(i)),
					})
					break // keys may repeat; a row is returned once
				}
			}
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("look up %d identities: %w", len(keys), err)
	}
	return found, nil
}

// interned makes one string of equal words of an answer.
type interned map[string]string

func (m interned) word(b []byte) string {
	if s, ok := m[string(b)]; ok {
		return s
	}
	s := string(b)
	m[s] = s
	return s
}

// Mark is how far a partition got: everything of earlier incarnations, and of Shard up to Seq.
type Mark struct {
	Shard uint16
	Seq   uint64
}

// IdentityHashes streams usage.IdentityHash of every event (sign 1) of a partition after `after` and
// not beyond upTo, in no order: what a duplicate filter is built and topped up from. The slice is
// reused between calls.
func (w *Warehouse) IdentityHashes(ctx context.Context, partition uint16, after, upTo Mark, each func([]uint64) error) error {
	shards, err := w.Shards(ctx, partition)
	if err != nil {
		return err
	}
	for _, shard := range shards {
		if shard < after.Shard || shard > upTo.Shard {
			continue
		}
		low, high := uint64(0), uint64(1<<63)
		if shard == after.Shard {
			low = after.Seq
		}
		if shard == upTo.Shard {
			high = upTo.Seq
		}
		var hash proto.ColUInt64
		err := w.read(ctx, bulk{
			sql: `SELECT xxh3(concat(tenant, '\0', source, '\0', id)) AS hash FROM {{db}}.events WHERE sign = 1` +
				` AND shard = ` + strconv.Itoa(int(shard)) +
				` AND seq > ` + strconv.FormatUint(low, 10) + ` AND seq <= ` + strconv.FormatUint(high, 10),
			result: proto.Results{column("hash", &hash)},
			each:   func(rows int) error { return each(hash[:rows]) },
		})
		if err != nil {
			return fmt.Errorf("stream identities of shard %d from %d to %d: %w", shard, low, high, err)
		}
	}
	return nil
}
