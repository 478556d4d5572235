package aggregator

import (
	"fmt"
	"testing"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// TestOnlyVoidsThatStillWaitAreRemembered: the row of a void that came before its target says `waiting`
// for ever. A session loads those whose target has not come, or has come above progress, and no others.
func TestOnlyVoidsThatStillWaitAreRemembered(t *testing.T) {
	t.Parallel()
	engine := localstack.SharedClickHouse(t)
	wh, err := warehouse.Open(t.Context(), warehouse.Config{DSN: engine.DSN(engine.Database(t))}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = wh.Close() })
	if err := wh.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	at := usage.At(1_762_000_000_000_000_000)
	block := warehouse.NewEventBlock()
	put := func(seq uint64, sign int8, e warehouse.EventRow) {
		e.Position, e.Sign, e.Tenant, e.Source, e.At, e.RecordedAt = warehouse.Position{Seq: seq}, sign, "acme", "/s", at, at
		e.IDHash = usage.IdentityHash(e.Tenant, usage.Identity{Source: e.Source, ID: e.ID})
		block.Append(&e)
	}
	for i, target := range []string{"never", "come", "above"} {
		put(uint64(i+1), 1, warehouse.EventRow{
			ID: "void of " + target, Type: usage.TypeVoided, VoidEffect: voidWaiting,
			Data: fmt.Sprintf(`{"reason":"r","target":{"id":%q,"source":"/s"}}`, target),
		})
	}
	for _, sign := range []int8{1, -1} {
		put(4, sign, warehouse.EventRow{ID: "come", Type: "t"})
		put(9, sign, warehouse.EventRow{ID: "above", Type: "t"})
	}
	writer, err := wh.TakeOver(t.Context(), 0, 0, t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(writer.Close)
	if err := writer.Insert(t.Context(), block); err != nil {
		t.Fatal(err)
	}
	p := &partition{warehouse: wh, zap: zap.NewNop()}
	got, err := p.waiting(t.Context(), 0, 8)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"never", "above"} {
		if _, ok := got[identityKey{"acme", "/s", id}]; !ok {
			t.Errorf("the void of %q is forgotten", id)
		}
	}
	if len(got) != 2 {
		t.Errorf("remembered: %v", got)
	}
}
