package warehouse

import (
	"encoding/binary"

	"github.com/ClickHouse/ch-go/proto"
)

// PieceBlock is a block of `pieces`.
type PieceBlock struct {
	block
	shard, piece                                                                    proto.ColUInt16
	seq                                                                             proto.ColUInt64
	idx                                                                             proto.ColUInt32
	sign                                                                            proto.ColInt8
	trial                                                                           proto.ColBool
	tenant, source, account, meter, assetType, region, platform, consumerType, item words
	plan                                                                            words
	id, assetID, assetName, consumerID                                              texts
	at, endAt, recordedAt, trialExpiry                                              instants
	quantity                                                                        quantities
	dimensions                                                                      labels
}

// NewPieceBlock is an empty block.
func NewPieceBlock() *PieceBlock {
	b := &PieceBlock{}
	b.block = newBlock(Pieces, proto.Input{
		{Name: "shard", Data: &b.shard}, {Name: "seq", Data: &b.seq}, {Name: "idx", Data: &b.idx},
		{Name: "piece", Data: &b.piece}, {Name: "sign", Data: &b.sign}, {Name: "tenant", Data: &b.tenant},
		{Name: "source", Data: &b.source}, {Name: "id", Data: &b.id}, {Name: "account", Data: &b.account},
		{Name: "at", Data: &b.at}, {Name: "end_at", Data: &b.endAt}, {Name: "recorded_at", Data: &b.recordedAt},
		{Name: "meter", Data: &b.meter}, {Name: "quantity", Data: &b.quantity}, {Name: "asset_id", Data: &b.assetID},
		{Name: "asset_name", Data: &b.assetName}, {Name: "asset_type", Data: &b.assetType},
		{Name: "trial_expiry", Data: &b.trialExpiry}, {Name: "trial", Data: &b.trial},
		{Name: "region", Data: &b.region}, {Name: "platform", Data: &b.platform},
		{Name: "consumer_type", Data: &b.consumerType}, {Name: "consumer_id", Data: &b.consumerID},
		{Name: "item", Data: &b.item}, {Name: "plan", Data: &b.plan}, {Name: "dimensions", Data: &b.dimensions},
	})
	return b
}

// Append adds a row; nothing of r is kept.
func (b *PieceBlock) Append(r *PieceRow) {
	b.note(r.At, r.Seq)
	b.shard = append(b.shard, r.Shard)
	b.seq = append(b.seq, r.Seq)
	b.idx = append(b.idx, r.Idx)
	b.piece = append(b.piece, r.Piece)
	b.sign = append(b.sign, r.Sign)
	b.tenant.add(r.Tenant)
	b.source.add(r.Source)
	b.id.add(r.ID)
	b.account.add(r.Account)
	b.at.add(r.At)
	b.endAt.add(r.EndAt)
	b.recordedAt.add(r.RecordedAt)
	b.meter.add(r.Meter)
	b.quantity.add(r.Quantity)
	b.assetID.add(r.AssetID)
	b.assetName.add(r.AssetName)
	b.assetType.add(r.AssetType)
	b.trialExpiry.add(r.TrialExpiry)
	b.trial = append(b.trial, r.Trial)
	b.region.add(r.Region)
	b.platform.add(r.Platform)
	b.consumerType.add(r.ConsumerType)
	b.consumerID.add(r.ConsumerID)
	b.item.add(r.Item)
	b.plan.add(r.Plan)
	b.dimensions.add(r.Dimensions)
}

// RollupBlock is a block of `usage_hourly` or `usage_monthly`, which differ in how long a cell is.
type RollupBlock struct {
	block
	shard                                          proto.ColUInt16
	hi, voids, count                               proto.ColUInt64
	events                                         proto.ColInt64
	trial                                          proto.ColBool
	tenant, account, meter, region, platform, plan words
	at, firstAt, lastAt                            instants
	quantity                                       sums
	low, high                                      quantities
}

// NewHourlyBlock is an empty block of `usage_hourly`.
func NewHourlyBlock() *RollupBlock { return newRollupBlock(Hourly, "hour") }

// NewMonthlyBlock is an empty block of `usage_monthly`.
func NewMonthlyBlock() *RollupBlock { return newRollupBlock(Monthly, "month") }

func newRollupBlock(t Target, at string) *RollupBlock {
	b := &RollupBlock{}
	b.block = newBlock(t, proto.Input{
		{Name: "shard", Data: &b.shard}, {Name: "hi", Data: &b.hi}, {Name: "tenant", Data: &b.tenant},
		{Name: "account", Data: &b.account}, {Name: "meter", Data: &b.meter}, {Name: at, Data: &b.at},
		{Name: "region", Data: &b.region}, {Name: "platform", Data: &b.platform}, {Name: "trial", Data: &b.trial},
		{Name: "plan", Data: &b.plan}, {Name: "quantity", Data: &b.quantity}, {Name: "events", Data: &b.events},
		{Name: "voids", Data: &b.voids}, {Name: "rows", Data: &b.count}, {Name: "low", Data: &b.low},
		{Name: "high", Data: &b.high}, {Name: "first_at", Data: &b.firstAt}, {Name: "last_at", Data: &b.lastAt},
	})
	return b
}

// Append adds a row; nothing of r is kept.
func (b *RollupBlock) Append(r *RollupRow) {
	b.note(r.At, r.Hi)
	b.shard = append(b.shard, r.Shard)
	b.hi = append(b.hi, r.Hi)
	b.tenant.add(r.Tenant)
	b.account.add(r.Account)
	b.meter.add(r.Meter)
	b.at.add(r.At)
	b.region.add(r.Region)
	b.platform.add(r.Platform)
	b.trial = append(b.trial, r.Trial)
	b.plan.add(r.Plan)
	b.quantity.add(r.Quantity)
	b.events = append(b.events, r.Events)
	b.voids = append(b.voids, r.Voids)
	b.count = append(b.count, r.Rows)
	b.low.add(r.Low)
	b.high.add(r.High)
	b.firstAt.add(r.FirstAt)
	b.lastAt.add(r.LastAt)
}

// DirectoryBlock is a block of `directory_events`.
type DirectoryBlock struct {
	block
	shard                            proto.ColUInt16
	seq                              proto.ColUInt64
	idx                              proto.ColUInt32
	sign                             proto.ColInt8
	tenant, source, typ              words
	id, account, correlationID, data texts
	at, recordedAt                   instants
}

// NewDirectoryBlock is an empty block.
func NewDirectoryBlock() *DirectoryBlock {
	b := &DirectoryBlock{}
	b.block = newBlock(Directory, proto.Input{
		{Name: "shard", Data: &b.shard}, {Name: "seq", Data: &b.seq}, {Name: "idx", Data: &b.idx},
		{Name: "sign", Data: &b.sign}, {Name: "tenant", Data: &b.tenant}, {Name: "source", Data: &b.source},
		{Name: "id", Data: &b.id}, {Name: "type", Data: &b.typ}, {Name: "account", Data: &b.account},
		{Name: "at", Data: &b.at}, {Name: "recorded_at", Data: &b.recordedAt},
		{Name: "correlation_id", Data: &b.correlationID}, {Name: "data", Data: &b.data},
	})
	return b
}

// Append adds a row; nothing of r is kept.
func (b *DirectoryBlock) Append(r *DirectoryRow) {
	b.note(r.At, r.Seq)
	b.shard = append(b.shard, r.Shard)
	b.seq = append(b.seq, r.Seq)
	b.idx = append(b.idx, r.Idx)
	b.sign = append(b.sign, r.Sign)
	b.tenant.add(r.Tenant)
	b.source.add(r.Source)
	b.id.add(r.ID)
	b.typ.add(r.Type)
	b.account.add(r.Account)
	b.at.add(r.At)
	b.recordedAt.add(r.RecordedAt)
	b.correlationID.add(r.CorrelationID)
	b.data.add(r.Data)
}

// DeadLetterBlock is a block of `dead_letters`.
type DeadLetterBlock struct {
	block
	shard, originalShard        proto.ColUInt16
	seq, contentHash            proto.ColUInt64
	originalSeq, originalHash   proto.ColUInt64
	idx, originalIdx            proto.ColUInt32
	tenant, typ, reason         words
	source, id, account, detail texts
	raw                         texts
	recordedAt                  instants
}

// NewDeadLetterBlock is an empty block.
func NewDeadLetterBlock() *DeadLetterBlock {
	b := &DeadLetterBlock{}
	b.block = newBlock(DeadLetters, proto.Input{
		{Name: "shard", Data: &b.shard}, {Name: "seq", Data: &b.seq}, {Name: "idx", Data: &b.idx},
		{Name: "tenant", Data: &b.tenant}, {Name: "source", Data: &b.source}, {Name: "id", Data: &b.id},
		{Name: "type", Data: &b.typ}, {Name: "account", Data: &b.account}, {Name: "reason", Data: &b.reason},
		{Name: "detail", Data: &b.detail}, {Name: "raw", Data: &b.raw}, {Name: "recorded_at", Data: &b.recordedAt},
		{Name: "content_hash", Data: &b.contentHash}, {Name: "original_shard", Data: &b.originalShard},
		{Name: "original_seq", Data: &b.originalSeq}, {Name: "original_idx", Data: &b.originalIdx},
		{Name: "original_hash", Data: &b.originalHash},
	})
	return b
}

// Append adds a row; nothing of r is kept.
func (b *DeadLetterBlock) Append(r *DeadLetterRow) {
	b.note(r.RecordedAt, r.Seq)
	b.shard = append(b.shard, r.Shard)
	b.seq = append(b.seq, r.Seq)
	b.idx = append(b.idx, r.Idx)
	b.tenant.add(r.Tenant)
	b.source.add(r.Source)
	b.id.add(r.ID)
	b.typ.add(r.Type)
	b.account.add(r.Account)
	b.reason.add(r.Reason)
	b.detail.add(r.Detail)
	b.raw.addBytes(r.Raw)
	b.recordedAt.add(r.RecordedAt)
	b.contentHash = append(b.contentHash, r.ContentHash)
	b.originalShard = append(b.originalShard, r.Original.Shard)
	b.originalSeq = append(b.originalSeq, r.Original.Seq)
	b.originalIdx = append(b.originalIdx, r.Original.Idx)
	b.originalHash = append(b.originalHash, r.OriginalHash)
}

// DuplicateBlock is a block of `duplicates`.
type DuplicateBlock struct {
	block
	shard, originalShard     proto.ColUInt16
	seq, idHash, originalSeq proto.ColUInt64
	idx, n, originalIdx      proto.ColUInt32
	tenant, source           words
	id                       texts
	recordedAt               instants
}

// NewDuplicateBlock is an empty block.
func NewDuplicateBlock() *DuplicateBlock {
	b := &DuplicateBlock{}
	b.block = newBlock(Duplicates, proto.Input{
		{Name: "shard", Data: &b.shard}, {Name: "seq", Data: &b.seq}, {Name: "idx", Data: &b.idx},
		{Name: "n", Data: &b.n}, {Name: "tenant", Data: &b.tenant}, {Name: "source", Data: &b.source},
		{Name: "id", Data: &b.id}, {Name: "id_hash", Data: &b.idHash}, {Name: "recorded_at", Data: &b.recordedAt},
		{Name: "original_shard", Data: &b.originalShard}, {Name: "original_seq", Data: &b.originalSeq},
		{Name: "original_idx", Data: &b.originalIdx},
	})
	return b
}

// Append adds a row; nothing of r is kept.
func (b *DuplicateBlock) Append(r *DuplicateRow) {
	b.note(r.RecordedAt, r.Seq)
	b.shard = append(b.shard, r.Shard)
	b.seq = append(b.seq, r.Seq)
	b.idx = append(b.idx, r.Idx)
	b.n = append(b.n, r.N)
	b.tenant.add(r.Tenant)
	b.source.add(r.Source)
	b.id.add(r.ID)
	b.idHash = append(b.idHash, r.IDHash)
	b.recordedAt.add(r.RecordedAt)
	b.originalShard = append(b.originalShard, r.Original.Shard)
	b.originalSeq = append(b.originalSeq, r.Original.Seq)
	b.originalIdx = append(b.originalIdx, r.Original.Idx)
}

// LedgerBlock is a block of `ledger`.
type LedgerBlock struct {
	block
	shard                                                      proto.ColUInt16
	seq                                                        proto.ColUInt64
	tenant                                                     words
	loggedAt                                                   instants
	hash                                                       proto.ColUInt128
	missing                                                    proto.ColUInt8
	accepted, stored, duplicate, conflict, quarantined, voided proto.ColUInt32
}

// NewLedgerBlock is an empty block.
func NewLedgerBlock() *LedgerBlock {
	b := &LedgerBlock{}
	b.block = newBlock(Ledger, proto.Input{
		{Name: "shard", Data: &b.shard}, {Name: "seq", Data: &b.seq}, {Name: "tenant", Data: &b.tenant},
		{Name: "logged_at", Data: &b.loggedAt}, {Name: "hash", Data: &b.hash}, {Name: "missing", Data: &b.missing},
		{Name: "accepted", Data: &b.accepted}, {Name: "stored", Data: &b.stored},
		{Name: "duplicate", Data: &b.duplicate}, {Name: "conflict", Data: &b.conflict},
		{Name: "quarantined", Data: &b.quarantined}, {Name: "voided", Data: &b.voided},
	})
	return b
}

// Append adds a row; nothing of r is kept.
func (b *LedgerBlock) Append(r *LedgerRow) {
	b.note(r.LoggedAt, r.Seq)
	b.shard = append(b.shard, r.Shard)
	b.seq = append(b.seq, r.Seq)
	b.tenant.add(r.Tenant)
	b.loggedAt.add(r.LoggedAt)
	b.hash = append(b.hash, proto.UInt128{
		High: binary.BigEndian.Uint64(r.Hash[:8]), Low: binary.BigEndian.Uint64(r.Hash[8:]),
	})
	missing := uint8(0)
	if r.Missing {
		missing = 1
	}
	b.missing = append(b.missing, missing)
	b.accepted = append(b.accepted, r.Accepted)
	b.stored = append(b.stored, r.Stored)
	b.duplicate = append(b.duplicate, r.Duplicate)
	b.conflict = append(b.conflict, r.Conflict)
	b.quarantined = append(b.quarantined, r.Quarantined)
	b.voided = append(b.voided, r.Voided)
}
