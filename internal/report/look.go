package report

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// look is what is read once for all that is asked in its context.
type look struct {
	mu   sync.Mutex
	mark *Watermark
	// Of directories, what was read after the watermark was: an answer has all that is below it.
	books  map[*book]fingerprint
	states map[string]named // by tenant and cut
}

type lookKey struct{}

// OneLook is a context in which the watermark and the directory are read once, by the first question: a page that asks many is of one cut,
// and costs less. It is for what takes moments: in it nothing that comes later is seen.
func OneLook(ctx context.Context) context.Context {
	return context.WithValue(ctx, lookKey{}, &look{})
}

// foldOnce is foldNamed, once for all that is asked of a cut in the context.
func (r *Reports) foldOnce(ctx context.Context, tenant string, cut Cut) (*directory.State, string, error) {
	l, ok := ctx.Value(lookKey{}).(*look)
	if !ok || ctx.Value(onlyEvents{}) != nil {
		return r.foldNamed(ctx, tenant, cut)
	}
	text, err := json.Marshal(cut)
	if err != nil {
		return nil, "", fmt.Errorf("name a cut: %w", err)
	}
	key := fmt.Sprintf("%q %s", tenant, text)
	l.mu.Lock()
	marked := l.mark != nil
	known, ok := l.states[key]
	l.mu.Unlock()
	if ok {
		return known.State, known.name, nil
	}
	state, name, err := r.foldNamed(ctx, tenant, cut)
	if err != nil || !marked {
		return state, name, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.states == nil {
		l.states = map[string]named{}
	}
	l.states[key] = named{state, name}
	return state, name, nil
}

// refreshOnce is refresh, once for all that is asked in the context: a page that asks many is of one directory too.
func (r *Reports) refreshOnce(ctx context.Context, tenant string, b *book) error {
	l, ok := ctx.Value(lookKey{}).(*look)
	if !ok {
		return r.refresh(ctx, tenant, b)
	}
	l.mu.Lock()
	marked := l.mark != nil
	prints, known := l.books[b]
	l.mu.Unlock()
	if known && prints == b.prints {
		return nil
	}
	if err := r.refresh(ctx, tenant, b); err != nil || !marked {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.books == nil {
		l.books = map[*book]fingerprint{}
	}
	l.books[b] = b.prints
	return nil
}

// Watermark is what the warehouse has of the log, now, or when the context's look began.
func (r *Reports) Watermark(ctx context.Context) (Watermark, error) {
	l, ok := ctx.Value(lookKey{}).(*look)
	if !ok {
		return r.watermark(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mark != nil {
		return *l.mark, nil
	}
	w, err := r.watermark(ctx)
	if err == nil {
		l.mark = &w
	}
	return w, err
}
