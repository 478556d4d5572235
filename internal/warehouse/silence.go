package warehouse

import (
	"context"
	"errors"
)

// ErrSilent: the server gives no sign of life. It is Unavailable.
var ErrSilent = errors.New("ClickHouse gives no sign of life")

type silenceKey struct{}

// Attentive is a context in which reads end when silence does, with its cause: for those who would not wait for a server
// that takes questions and answers none. What else is done in the context goes on.
func Attentive(ctx, silence context.Context) context.Context {
	return context.WithValue(ctx, silenceKey{}, silence)
}

// Silence ends with the signs of life of the server, where ctx is Attentive; elsewhere it never does.
func Silence(ctx context.Context) context.Context {
	if silence, ok := ctx.Value(silenceKey{}).(context.Context); ok {
		return silence
	}
	return context.WithoutCancel(ctx)
}

// attend is ctx that ends with the signs of life as well.
func attend(ctx context.Context) (attentive context.Context, leave func()) {
	silence, ok := ctx.Value(silenceKey{}).(context.Context)
	if !ok {
		return ctx, func() {}
	}
	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(silence, func() { end(context.Cause(silence)) })
	return ctx, func() { stop(); end(nil) }
}

// silent is the error of a statement: why, where it ended for want of a sign of life.
func (w *Warehouse) silent(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrSilent) {
		w.distrust() // what is idle may have been forgotten on the other side
		return cause
	}
	return err
}
