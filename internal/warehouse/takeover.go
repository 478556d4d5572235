package warehouse

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// Progress is the tail of a shard's ledger: everything up to Seq is in every target (I9).
type Progress struct {
	Found    bool // the ledger has a row of this shard
	Seq      uint64
	LoggedAt usage.Instant
	Hash     [16]byte // of the message at Seq: another hash there means a recreated stream
}

// TakeOver makes the caller the one writer of a shard and reads how far every target got. Start-up,
// an error, a time-out and a lost lease all come here. The order is what makes it safe, and no step may
// move: (1) a new owner row, so that no insert of an earlier owner can start any more; (2) KILL SYNC of
// the inserts that had started; (3) a look that none is left; (4) fresh connections; (5) the watermarks.
//
// floor is the revision of the caller's lease; holder is for people. ErrFenced means that somebody else
// took over at the same moment: ask for the lease again.
func (w *Warehouse) TakeOver(ctx context.Context, shard uint16, floor uint64, holder string) (*Writer, error) {
	ctx, cancel := w.limit(ctx)
	defer cancel()
	wr := &Writer{w: w, shard: shard}
	if err := w.untouched(ctx); err != nil { // whoever tries again and again leaves no owner rows meanwhile
		return nil, fmt.Errorf("take over shard %d: %w", shard, err)
	}
	if err := wr.own(ctx, floor, holder); err != nil {
		return nil, fmt.Errorf("take over shard %d: %w", shard, err)
	}
	if err := w.untouched(ctx); err != nil { // a rebuild says what it does before it makes the owners step down
		return nil, fmt.Errorf("take over shard %d: %w", shard, err)
	}
	faultpoint.Hit("warehouse/owner-written")
	if err := wr.killEarlier(ctx); err != nil {
		return nil, fmt.Errorf("take over shard %d: %w", shard, err)
	}
	faultpoint.Hit("warehouse/earlier-killed")
	if err := wr.connect(ctx); err != nil {
		wr.Close()
		return nil, fmt.Errorf("take over shard %d: %w", shard, err)
	}
	if err := wr.readWatermarks(ctx); err != nil {
		wr.Close()
		return nil, fmt.Errorf("take over shard %d: %w", shard, err)
	}
	faultpoint.Hit("warehouse/watermarks-read")
	w.log.Info("shard taken over", zap.Uint16("shard", shard), zap.Uint64("epoch", wr.epoch),
		zap.Uint64("progress", wr.progress.Seq), zap.String("holder", holder))
	return wr, nil
}

// own writes the owner row and checks that it is the highest.
func (wr *Writer) own(ctx context.Context, floor uint64, holder string) error {
	var highest uint64
	const last = `SELECT max(epoch) FROM {{db}}.owner WHERE shard = @shard`
	if err := wr.w.one(ctx, last, []any{named("shard", wr.shard)}, &highest); err != nil {
		return fmt.Errorf("read the owner: %w", err)
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	wr.epoch, wr.nonce = max(highest, floor)+1, binary.LittleEndian.Uint64(random[:])
	const claim = `
INSERT INTO {{db}}.owner (shard, epoch, nonce, holder, at)
SETTINGS async_insert = 0, deduplicate_insert = 'disable'
SELECT toUInt16(@shard), toUInt64(@epoch), toUInt64(@nonce), @holder, now64(3, 'UTC')`
	if err := wr.w.exec(ctx, claim, named("shard", wr.shard), named("epoch", wr.epoch),
		named("nonce", wr.nonce), named("holder", holder)); err != nil {
		return fmt.Errorf("write the owner row: %w", err)
	}
	return wr.Owns(ctx)
}

// Owns checks that nobody has taken the shard over since: ErrFenced if somebody has.
func (wr *Writer) Owns(ctx context.Context) error {
	ctx, cancel := wr.w.limit(ctx)
	defer cancel()
	var epoch, nonce uint64
	const check = `SELECT tupleElement(max((epoch, nonce)) AS o, 1), tupleElement(o, 2) FROM {{db}}.owner WHERE shard = @shard`
	if err := wr.w.one(ctx, check, []any{named("shard", wr.shard)}, &epoch, &nonce); err != nil {
		return fmt.Errorf("check the owner row: %w", err)
	}
	if epoch != wr.epoch || nonce != wr.nonce {
		return fmt.Errorf("epoch %d is not the highest, which is %d: %w", wr.epoch, epoch, ErrFenced)
	}
	return nil
}

// killEarlier ends every insert of the shard that had started before the owner row, and returns only
// when the server runs none. KILL SYNC waits for a commit in flight, so what is then in the tables is
// all there will ever be of them; a client that stopped sending is dropped after receive_timeout.
func (wr *Writer) killEarlier(ctx context.Context) error {
	ids := make([]string, 0, Targets)
	for t := range Targets {
		ids = append(ids, wr.queryID(t))
	}
	const kill = `KILL QUERY WHERE query_id IN (@ids) SYNC`
	const look = `SELECT count() FROM system.processes WHERE query_id IN (@ids)`
	for {
		if err := wr.w.exec(ctx, kill, named("ids", ids)); err != nil {
			return fmt.Errorf("kill the inserts of earlier owners: %w", err)
		}
		var running uint64
		if err := wr.w.one(ctx, look, []any{named("ids", ids)}, &running); err != nil {
			return fmt.Errorf("look for inserts of earlier owners: %w", err)
		}
		if running == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d inserts of earlier owners still run: %w", running, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// connect opens one connection per target: what was sent on an older one must not be able to arrive.
func (wr *Writer) connect(ctx context.Context) error {
	for t := range Targets {
		client, err := wr.w.dial(ctx)
		if err != nil {
			return err
		}
		wr.lanes[t].client = client
	}
	return nil
}

// readWatermarks reads, for each target and partition, the highest position that is in it.
func (wr *Writer) readWatermarks(ctx context.Context) error {
	for t := range Targets {
		marks := make(map[Partition]uint64)
		sql := `SELECT _partition_id, max(` + t.seqColumn() + `) FROM {{db}}.` + t.String() + ` WHERE shard = @shard GROUP BY _partition_id`
		err := wr.w.Query(ctx, sql, []any{named("shard", wr.shard)}, func(r Rows) error {
			var id string
			var seq uint64
			if err := r.Scan(&id, &seq); err != nil {
				return err
			}
			p, err := ParsePartition(id)
			marks[p] = seq
			return err
		})
		if err != nil {
			return fmt.Errorf("read the watermarks of %s: %w", t, err)
		}
		wr.lanes[t].marks = marks
	}
	var err error
	wr.progress, err = wr.w.Progress(ctx, wr.shard)
	return err
}

// Progress reads the tail of a shard's ledger.
func (w *Warehouse) Progress(ctx context.Context, shard uint16) (Progress, error) {
	var p Progress
	const tail = `SELECT seq, toUnixTimestamp64Milli(logged_at), hex(hash) FROM {{db}}.ledger WHERE shard = @shard ORDER BY seq DESC LIMIT 1`
	err := w.Query(ctx, tail, []any{named("shard", shard)}, func(r Rows) error {
		var ms int64
		var hash string
		if err := r.Scan(&p.Seq, &ms, &hash); err != nil {
			return err
		}
		p.Found, p.LoggedAt = true, usage.At(ms*int64(time.Millisecond))
		return parseHash(hash, &p.Hash)
	})
	if err != nil {
		return p, fmt.Errorf("read the progress of shard %d: %w", shard, err)
	}
	return p, nil
}

// parseHash reads hex(UInt128): most significant digit first, without leading zero bytes.
func parseHash(s string, hash *[16]byte) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) > len(hash) {
		return fmt.Errorf("hash %q of the ledger is not 128 bits", s)
	}
	*hash = [16]byte{}
	copy(hash[len(hash)-len(b):], b)
	return nil
}
