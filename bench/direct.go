package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

const (
	directRows = 100_000 // as the aggregator's batches
	directFor  = 5 * time.Second
	directDB   = "countinghouse_bench_direct"
)

// direct inserts rows like those of the load, prepared in memory, into a table like theirs on the same
// server: what the server alone can take. The answer is rows per second.
func direct(ctx context.Context, s *system, bodies []*body) (rate int, err error) {
	dsn := s.endpoints.ClickHouse[:len(s.endpoints.ClickHouse)-len("countinghouse")] + directDB
	w, err := warehouse.Open(ctx, warehouse.Config{DSN: dsn}, zap.NewNop())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := w.Migrate(ctx, nil); err != nil {
		return 0, err
	}
	defer func() {
		for _, db := range []string{directDB + "_api", directDB} {
			_, dropErr := s.query(ctx, "DROP DATABASE IF EXISTS "+db+" SYNC")
			err = errors.Join(err, dropErr)
		}
	}()
	wr, err := w.TakeOver(ctx, 0, 1, "bench")
	if err != nil {
		return 0, err
	}
	defer wr.Close()
	blocks := [2]*warehouse.EventBlock{directBlock(bodies, 0), directBlock(bodies, 1)}
	began, rows := time.Now(), 0
	for i := 0; time.Since(began) < directFor; i++ {
		if err := wr.Insert(ctx, blocks[i%2]); err != nil {
			return 0, err
		}
		rows += blocks[i%2].Rows()
	}
	return int(float64(rows) / time.Since(began).Seconds()), nil
}

// directBlock is a block of the rows that the aggregator would make of the bodies.
func directBlock(bodies []*body, n int) *warehouse.EventBlock {
	rnd := rand.New(rand.NewPCG(seed, uint64(n)))
	block := warehouse.NewEventBlock()
	now := usage.AtTime(time.Now())
	for seq := uint64(1); block.Rows() < directRows; seq++ {
		b := bodies[rnd.IntN(len(bodies))]
		correlation := uuid.Must(uuid.NewV7()).String()
		for i := range b.slots {
			slot := &b.slots[i]
			id := usage.Identity{Source: "/gateways/1", ID: uuid.NewString()}
			block.Append(&warehouse.EventRow{
				Position: warehouse.Position{Seq: seq, Idx: uint32(i)}, Sign: 1, Tenant: b.tenant, Source: id.Source, ID: id.ID,
				IDHash: usage.IdentityHash(b.tenant, id), ContentHash: rnd.Uint64(), Type: usage.TypeMetered, Account: slot.account,
				At: now, ReportedAt: now, RecordedAt: now, AcceptedAt: now, WrittenAt: now,
				CorrelationID: correlation, CausationID: correlation, Meter: slot.meter, Quantity: usage.Int(int64(100 + rnd.IntN(900))),
				Unit: "unit", EndAt: now, Region: "eu-west", ConsumerType: "device", ConsumerID: slot.consumer,
			})
		}
	}
	return block
}
