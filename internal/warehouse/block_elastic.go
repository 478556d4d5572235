package warehouse

import (
	"github.com/ClickHouse/ch-go/proto"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// ElasticRow is a row of `elastic_lines`: one line of an elastic.operation.
type ElasticRow struct {
	Position
	Line          uint32 // index in the event
	Sign          int8
	Tenant        string
	Source        string
	ID            string
	Account       string
	At            usage.Instant
	RecordedAt    usage.Instant
	CorrelationID string
	Operation     usage.ElasticOperation // but for its lines
	usage.ElasticLine
}

// Bits of `given`: which optional decimals the producer sent.
const (
	GivenCost   = 1
	GivenMapped = 2
	GivenUsed   = 4
)

func (r *ElasticRow) given() uint8 {
	g := uint8(0)
	if r.MeterCost.Given {
		g |= GivenCost
	}
	if r.Mapped.Given {
		g |= GivenMapped
	}
	if r.Used.Given {
		g |= GivenUsed
	}
	return g
}

// ElasticBlock is a block of `elastic_lines`.
type ElasticBlock struct {
	block
	shard                                                                       proto.ColUInt16
	seq                                                                         proto.ColUInt64
	idx, line                                                                   proto.ColUInt32
	sign                                                                        proto.ColInt8
	given                                                                       proto.ColUInt8
	sourceSeq, lineNo, refundLine                                               proto.ColInt64
	tenant, source, operation, consumerType, item, itemVersion, state, response words
	series, version                                                             words
	id, account, correlationID, consumerID, instanceID, activationID, sessionID texts
	refundCorrelation, metaData                                                 texts
	at, recordedAt                                                              instants
	itemQuantity, meterCost, meterQuantity, mapped, used                        quantities
}

// NewElasticBlock is an empty block.
func NewElasticBlock() *ElasticBlock {
	b := &ElasticBlock{}
	b.block = newBlock(Elastic, proto.Input{
		{Name: "shard", Data: &b.shard}, {Name: "seq", Data: &b.seq}, {Name: "idx", Data: &b.idx}, {Name: "line", Data: &b.line},
		{Name: "sign", Data: &b.sign}, {Name: "tenant", Data: &b.tenant}, {Name: "source", Data: &b.source}, {Name: "id", Data: &b.id},
		{Name: "source_seq", Data: &b.sourceSeq}, {Name: "account", Data: &b.account}, {Name: "at", Data: &b.at},
		{Name: "recorded_at", Data: &b.recordedAt}, {Name: "correlation_id", Data: &b.correlationID},
		{Name: "operation", Data: &b.operation}, {Name: "consumer_type", Data: &b.consumerType}, {Name: "consumer_id", Data: &b.consumerID},
		{Name: "instance_id", Data: &b.instanceID}, {Name: "session_id", Data: &b.sessionID}, {Name: "session_state", Data: &b.state},
		{Name: "line_no", Data: &b.lineNo}, {Name: "item", Data: &b.item}, {Name: "item_version", Data: &b.itemVersion},
		{Name: "item_quantity", Data: &b.itemQuantity}, {Name: "response", Data: &b.response}, {Name: "activation_id", Data: &b.activationID},
		{Name: "series", Data: &b.series}, {Name: "version", Data: &b.version}, {Name: "meter_cost", Data: &b.meterCost},
		{Name: "meter_quantity", Data: &b.meterQuantity}, {Name: "mapped_entitled_count", Data: &b.mapped}, {Name: "used", Data: &b.used},
		{Name: "given", Data: &b.given}, {Name: "refund_correlation_id", Data: &b.refundCorrelation},
		{Name: "refund_line_no", Data: &b.refundLine}, {Name: "meta_data", Data: &b.metaData},
	})
	return b
}

// Append adds a row; nothing of r is kept.
func (b *ElasticBlock) Append(r *ElasticRow) {
	b.note(r.At, r.Seq)
	b.shard = append(b.shard, r.Shard)
	b.seq = append(b.seq, r.Seq)
	b.idx = append(b.idx, r.Idx)
	b.line = append(b.line, r.Line)
	b.sign = append(b.sign, r.Sign)
	b.tenant.add(r.Tenant)
	b.source.add(r.Source)
	b.id.add(r.ID)
	b.sourceSeq = append(b.sourceSeq, r.Operation.SourceSeq)
	b.account.add(r.Account)
	b.at.add(r.At)
	b.recordedAt.add(r.RecordedAt)
	b.correlationID.add(r.CorrelationID)
	b.operation.add(r.Operation.Operation)
	b.consumerType.add(r.Operation.ConsumerType)
	b.consumerID.add(r.Operation.ConsumerID)
	b.instanceID.add(r.Operation.InstanceID)
	b.sessionID.add(r.Operation.SessionID)
	b.state.add(r.Operation.SessionState)
	b.lineNo = append(b.lineNo, r.LineNo)
	b.item.add(r.Item)
	b.itemVersion.add(r.ItemVersion)
	b.itemQuantity.add(r.ItemQuantity)
	b.response.add(r.Response)
	b.activationID.add(r.ActivationID)
	b.series.add(r.Series)
	b.version.add(r.Version)
	b.meterCost.add(r.MeterCost.Quantity)
	b.meterQuantity.add(r.MeterQuantity)
	b.mapped.add(r.Mapped.Quantity)
	b.used.add(r.Used.Quantity)
	b.given = append(b.given, r.given())
	b.refundCorrelation.add(r.RefundCorrelation)
	b.refundLine = append(b.refundLine, r.RefundLine)
	b.metaData.add(r.MetaData)
}
