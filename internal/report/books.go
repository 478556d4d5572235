package report

import (
	"context"
	"sync"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// booksMax bounds the directories kept folded; a tenant of 10,000 accounts takes about 20 MB.
const booksMax = 32

// books keeps each tenant's directory folded until its events change.
type books struct {
	mu      sync.Mutex
	tenants map[string]book
}

type book struct {
	rows, hash uint64 // of the tenant's directory events: what the fold was made from
	events     []directory.Event
	state      *directory.State
}

const directoryFingerprint = `
SELECT count(), groupBitXor(cityHash64(shard, seq, idx, sign))
FROM {{db}}.directory_events
WHERE tenant = {tenant:String}`

const directoryEvents = `
SELECT type, source, id, account, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), sign, data
FROM {{db}}.directory_events
WHERE tenant = {tenant:String}`

// directory is the tenant's directory as of asOf (directory.Latest: as known now).
func (r *Reports) directory(ctx context.Context, tenant string, asOf int64) (*directory.State, error) {
	b, err := r.book(ctx, tenant)
	if err != nil {
		return nil, err
	}
	if asOf == directory.Latest {
		return b.state, nil
	}
	return directory.Fold(b.events, asOf), nil
}

func (r *Reports) book(ctx context.Context, tenant string) (book, error) {
	var now book
	params := map[string]any{"tenant": tenant}
	err := r.query(ctx, "read the directory", directoryFingerprint, params, func(row warehouse.Rows) error {
		return row.Scan(&now.rows, &now.hash)
	})
	if err != nil {
		return book{}, err
	}
	r.books.mu.Lock()
	known, ok := r.books.tenants[tenant]
	r.books.mu.Unlock()
	if ok && known.rows == now.rows && known.hash == now.hash {
		return known, nil
	}
	err = r.query(ctx, "read the directory", directoryEvents, params, func(row warehouse.Rows) error {
		var e directory.Event
		var sign int8
		err := row.Scan(&e.Type, &e.Source, &e.ID, &e.Account, &e.At, &e.RecordedAt, &sign, &e.Data)
		e.Void = sign < 0
		now.events = append(now.events, e)
		return err
	})
	if err != nil {
		return book{}, err
	}
	// Rows that arrived between the two reads are in the fold already; the fingerprint is older and
	// makes the next question read again.
	now.state = directory.Fold(now.events, directory.Latest)
	r.books.mu.Lock()
	defer r.books.mu.Unlock()
	if len(r.books.tenants) >= booksMax {
		for other := range r.books.tenants { // any: a miss costs one read
			delete(r.books.tenants, other)
			break
		}
	}
	r.books.tenants[tenant] = now
	return now, nil
}
