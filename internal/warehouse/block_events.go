package warehouse

import "github.com/ClickHouse/ch-go/proto"

// EventBlock is a block of `events`.
type EventBlock struct {
	block
	shard, pieces                                                          proto.ColUInt16
	idKey, idx                                                             proto.ColUInt32
	seq, contentHash                                                       proto.ColUInt64
	sign                                                                   proto.ColInt8
	trial                                                                  proto.ColBool
	tenant, source, typ, account, meter, unit, assetType, region, platform words
	consumerType, item, itemVersion, plan, voidEffect                      words
	id, correlationID, causation, assetID, assetName, consumerID           texts
	data, extensions                                                       texts
	at, recordedAt, writtenAt, trialExpiry                                 instants
	reportedLag, acceptedLag, duration                                     proto.ColInt64
	quantity                                                               quantities
	dimensions                                                             labels
}

// NewEventBlock is an empty block.
func NewEventBlock() *EventBlock {
	b := &EventBlock{}
	b.block = newBlock(Events, proto.Input{
		{Name: "shard", Data: &b.shard}, {Name: "seq", Data: &b.seq}, {Name: "idx", Data: &b.idx},
		{Name: "sign", Data: &b.sign}, {Name: "tenant", Data: &b.tenant}, {Name: "source", Data: &b.source},
		{Name: "id", Data: &b.id}, {Name: "id_key", Data: &b.idKey}, {Name: "content_hash", Data: &b.contentHash},
		{Name: "type", Data: &b.typ}, {Name: "account", Data: &b.account}, {Name: "at", Data: &b.at},
		{Name: "reported_lag", Data: &b.reportedLag}, {Name: "recorded_at", Data: &b.recordedAt},
		{Name: "accepted_lag", Data: &b.acceptedLag}, {Name: "written_at", Data: &b.writtenAt},
		{Name: "correlation_id", Data: &b.correlationID}, {Name: "causation_own", Data: &b.causation},
		{Name: "meter", Data: &b.meter}, {Name: "quantity", Data: &b.quantity}, {Name: "unit", Data: &b.unit},
		{Name: "asset_id", Data: &b.assetID}, {Name: "asset_name", Data: &b.assetName},
		{Name: "asset_type", Data: &b.assetType}, {Name: "duration", Data: &b.duration}, {Name: "pieces", Data: &b.pieces},
		{Name: "trial_expiry", Data: &b.trialExpiry}, {Name: "trial", Data: &b.trial},
		{Name: "region", Data: &b.region}, {Name: "platform", Data: &b.platform},
		{Name: "consumer_type", Data: &b.consumerType}, {Name: "consumer_id", Data: &b.consumerID},
		{Name: "item", Data: &b.item}, {Name: "item_version", Data: &b.itemVersion}, {Name: "plan", Data: &b.plan},
		{Name: "dimensions", Data: &b.dimensions}, {Name: "data", Data: &b.data},
		{Name: "extensions", Data: &b.extensions}, {Name: "void_effect", Data: &b.voidEffect},
	})
	return b
}

// Append adds a row; nothing of r is kept. Instants that nearly always equal another one are stored as
// their distance from it in milliseconds, and a causation that is the correlation as ”: most of their
// bytes are saved, and the table's alias columns give them back.
func (b *EventBlock) Append(r *EventRow) {
	b.note(r.At, r.Seq)
	b.shard = append(b.shard, r.Shard)
	b.seq = append(b.seq, r.Seq)
	b.idx = append(b.idx, r.Idx)
	b.sign = append(b.sign, r.Sign)
	b.tenant.add(r.Tenant)
	b.source.add(r.Source)
	b.id.add(r.ID)
	b.idKey = append(b.idKey, keyOf(r.IDHash))
	b.contentHash = append(b.contentHash, r.ContentHash)
	b.typ.add(r.Type)
	b.account.add(r.Account)
	b.at.add(r.At)
	b.reportedLag = append(b.reportedLag, r.ReportedAt.Millis()-r.At.Millis())
	b.recordedAt.add(r.RecordedAt)
	b.acceptedLag = append(b.acceptedLag, r.AcceptedAt.Millis()-r.RecordedAt.Millis())
	b.writtenAt.add(r.WrittenAt)
	b.correlationID.add(r.CorrelationID)
	causation := r.CausationID
	if causation == r.CorrelationID {
		causation = ""
	}
	b.causation.add(causation)
	b.meter.add(r.Meter)
	b.quantity.add(r.Quantity)
	b.unit.add(r.Unit)
	b.assetID.add(r.AssetID)
	b.assetName.add(r.AssetName)
	b.assetType.add(r.AssetType)
	duration := int64(0)
	if r.EndAt.Known() {
		duration = r.EndAt.Millis() - r.At.Millis()
	}
	b.duration = append(b.duration, duration)
	b.pieces = append(b.pieces, r.Pieces)
	b.trialExpiry.add(r.TrialExpiry)
	b.trial = append(b.trial, r.Trial)
	b.region.add(r.Region)
	b.platform.add(r.Platform)
	b.consumerType.add(r.ConsumerType)
	b.consumerID.add(r.ConsumerID)
	b.item.add(r.Item)
	b.itemVersion.add(r.ItemVersion)
	b.plan.add(r.Plan)
	b.dimensions.add(r.Dimensions)
	b.data.add(r.Data)
	b.extensions.add(r.Extensions)
	b.voidEffect.add(r.VoidEffect)
}

// keyOf is the stored half of an identity's hash, what lookups search by.
func keyOf(idHash uint64) uint32 { return uint32(idHash >> 32) }
