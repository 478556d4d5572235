package warehouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
)

// Writer inserts into the targets of one shard, as its owner. Inserts into different targets run in
// parallel, each on a connection of its own; into one target there is one at a time. After the first
// error the Writer is spent: its other inserts may still end either way, and only TakeOver can tell.
type Writer struct {
	w            *Warehouse
	shard        uint16
	epoch, nonce uint64
	progress     Progress
	lanes        [Targets]lane

	mu    sync.Mutex
	spent error
}

// lane is the road to one target.
type lane struct {
	mu     sync.Mutex
	client *ch.Client
	marks  map[Partition]uint64
	insert string // the statement, built at the first block
}

// Shard is the shard the Writer owns; Epoch orders its owners.
func (wr *Writer) Shard() uint16 { return wr.shard }

// Epoch is the number of this ownership: the next owner's is higher.
func (wr *Writer) Epoch() uint64 { return wr.epoch }

// Progress is the ledger's tail as read by TakeOver.
func (wr *Writer) Progress() Progress { return wr.progress }

// Watermarks is, for each target and partition, the highest position known to be stored: rows at or
// below it must not be sent again. Partitions that are missing have none. Insert moves them.
func (wr *Writer) Watermarks() map[Target]map[Partition]uint64 {
	all := make(map[Target]map[Partition]uint64, Targets)
	for t := range Targets {
		wr.lanes[t].mu.Lock()
		all[t] = maps.Clone(wr.lanes[t].marks)
		wr.lanes[t].mu.Unlock()
	}
	return all
}

// Close drops the connections. Inserts in flight end with an unknown outcome.
func (wr *Writer) Close() {
	for t := range Targets {
		if c := wr.lanes[t].client; c != nil {
			_ = c.Close() // an error here says no more than that it is closed already
		}
	}
}

// Insert sends a block, as one native block, and returns when the server has it on disk. An empty
// block is not sent. On success the watermarks of the block's partitions are its highest positions.
//
// Errors: ErrFenced, another owner exists and nothing was stored; ErrContent, the server refuses these
// rows for what they are; ErrUnknown for everything else, because a connection that breaks says nothing
// about what the server did. After any of them the Writer is spent.
func (wr *Writer) Insert(ctx context.Context, b Block) error {
	if b.Rows() == 0 {
		return nil
	}
	l := &wr.lanes[b.Target()]
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := wr.alive(); err != nil {
		return fmt.Errorf("insert %d rows into %s: an earlier insert failed: %w", b.Rows(), b.Target(), err)
	}
	faultpoint.Hit("warehouse/before-insert")
	if err := wr.send(ctx, l, b); err != nil {
		err = fmt.Errorf("insert %d rows into %s of shard %d: %w", b.Rows(), b.Target(), wr.shard, err)
		wr.spend(err)
		_ = l.client.Close() // what it sent must not be able to arrive later; the server sees the end
		return err
	}
	faultpoint.Hit("warehouse/inserted")
	for p, seq := range b.base().highest() {
		l.marks[p] = max(l.marks[p], seq)
	}
	return nil
}

func (wr *Writer) alive() error {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	return wr.spent
}

func (wr *Writer) spend(err error) {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if wr.spent == nil {
		wr.spent = err
		if errors.Is(err, ErrUnknown) {
			wr.w.distrust()
		}
	}
}

// send does one insert. It waits while the server still runs one of the same name: after our owner row
// that can only be an earlier owner's, which the fence keeps from writing and which ends by itself.
func (wr *Writer) send(ctx context.Context, l *lane, b Block) error {
	ctx, cancel := context.WithTimeout(ctx, wr.w.cfg.InsertTimeout)
	defer cancel()
	if l.insert == "" {
		l.insert = wr.statement(b.base())
	}
	for {
		err := wr.attempt(ctx, l, b)
		if !ch.IsErr(err, proto.ErrQueryWithSameIDIsAlreadyRunning) {
			return err
		}
		select {
		case <-ctx.Done():
			return ended(ctx, err)
		case <-time.After(sameNameWait):
		}
		_ = l.client.Close() // refused before it began: nothing was sent on it
		fresh, err := wr.w.dial(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		l.client = fresh
	}
}

const sameNameWait = 20 * time.Millisecond

// attempt is one try. The number of rows the server says it wrote is the fence's verdict: the guard in the
// statement is evaluated once, before the data arrives, and a false one writes none.
func (wr *Writer) attempt(ctx context.Context, l *lane, b Block) error {
	client := l.client
	// ch-go itself looks at a cancelled context only between packets.
	defer context.AfterFunc(ctx, func() { _ = client.Close() })()
	var written uint64
	err := client.Do(ctx, ch.Query{
		Body:     l.insert,
		QueryID:  wr.queryID(b.Target()),
		Input:    b.base().input,
		Settings: insertSettings(),
		OnProgress: func(_ context.Context, p proto.Progress) error {
			written += p.WroteRows
			return nil
		},
	})
	switch {
	case err != nil && contentError(err):
		return fmt.Errorf("%w: %w", ErrContent, err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnknown, ended(ctx, err))
	case written == 0:
		return ErrFenced
	case written != uint64(b.Rows()):
		return fmt.Errorf("%w: the server wrote %d rows", ErrUnknown, written)
	}
	return nil
}

// queryID is fixed per shard and target, so that the next owner knows what to kill. A database other
// than the default one has its name in it: servers are shared, by tests at least.
func (wr *Writer) queryID(t Target) string {
	id := "agg-" + strconv.Itoa(int(wr.shard)) + "-" + t.String()
	if wr.w.db != "countinghouse" {
		id += "-" + wr.w.db
	}
	return id
}

// statement is the fenced insert. It is put together from the block's own columns, so that names and
// types cannot differ between what is declared to input() and what is sent.
func (wr *Writer) statement(b *block) string {
	var names, declared []string
	for _, c := range b.input {
		names = append(names, c.Name)
		declared = append(declared, c.Name+" "+strings.ReplaceAll(string(c.Data.Type()), "'", `\'`))
	}
	columns := strings.Join(names, ", ")
	return wr.w.expand("INSERT INTO {{db}}." + b.target.String() + " (" + columns + ")" +
		" SELECT " + columns + " FROM input('" + strings.Join(declared, ", ") + "')" +
		" WHERE (SELECT max((epoch, nonce)) FROM {{db}}.owner WHERE shard = " + strconv.Itoa(int(wr.shard)) + ")" +
		" = (" + strconv.FormatUint(wr.epoch, 10) + ", " + strconv.FormatUint(wr.nonce, 10) + ")" +
		" FORMAT Native")
}

// insertSettings are pinned (I10): a server's own profile must not be able to cut a
// block into several parts per partition, to acknowledge before the part is committed, or to drop a
// block that looks like an earlier one.
func insertSettings() []ch.Setting {
	const noLimit = "1000000000"
	pins := [...][2]string{
		{"async_insert", "0"},
		{"receive_timeout", "5"},                 // a client that stops sending is dropped, so KILL SYNC ends
		{"poll_interval", "1"},                   // how often the time-out is looked at: with the default, 10, a frozen client held a takeover up for 20 s, now 12
		{"use_strict_insert_block_limits", "0"},  // 1 cuts a block into several parts (measured)
		{"max_partitions_per_insert_block", "0"}, // else error 252 on every retry beyond 100 partitions
		{"deduplicate_insert", "disable"},        // its log is written before the part is renamed: a kill loses rows
		{"use_query_cache", "0"},                 // the fence must be read, not remembered
		{"replace_running_query", "0"},           // an insert of the same name still runs: refuse, do not race it
		{"optimize_on_insert", "0"},              // rows written must equal rows sent
		{"max_insert_threads", "1"},              // one thread, one sink, one part per partition
		{"max_threads", "1"},
		{"max_block_size", noLimit},
		{"max_insert_block_size", noLimit},
		{"max_insert_block_size_bytes", "0"},
		{"min_insert_block_size_rows", noLimit},
		{"min_insert_block_size_bytes", "0"},
		{"parallel_view_processing", "0"},
	}
	settings := make([]ch.Setting, 0, len(pins))
	for _, p := range pins {
		settings = append(settings, ch.Setting{Key: p[0], Value: p[1], Important: true})
	}
	return settings
}

// contentError reports whether the server refused the rows for what they are. The list is short on
// purpose: anything else is taken for an unknown outcome, which is always safe.
func contentError(err error) bool {
	var e *ch.Exception
	return errors.As(err, &e) && e.IsCode(
		proto.ErrTypeMismatch, proto.ErrCannotConvertType, proto.ErrDecimalOverflow, proto.ErrArgumentOutOfBound,
		proto.ErrNoSuchColumnInTable, proto.ErrUnknownTable, proto.ErrIncorrectData)
}
