package usage

import (
	"encoding/json"
	"fmt"
)

// ElasticOperation is an elastic.operation, read: a decision of the access product, line by line.
type ElasticOperation struct {
	Operation                string // access_request, automatic_charge or refund
	InstanceID               string
	ConsumerType, ConsumerID string
	SessionID, SessionState  string
	SourceSeq                int64
	Lines                    []ElasticLine // in the order of the event
}

// ElasticLine is one requested item, charged to one line item. A field the producer left out is zero.
type ElasticLine struct {
	LineNo            int64
	Item, ItemVersion string
	ItemQuantity      Quantity
	Response          string
	ActivationID      string
	Mapped            OptionalQuantity // mapped_entitled_count
	Used              OptionalQuantity // the producer's own running total: kept, never trusted
	Series, Version   string
	MeterCost         OptionalQuantity
	MeterQuantity     Quantity
	RefundCorrelation string
	RefundLine        int64
	MetaData          string // canonical JSON object, "" if none
}

// Granted reports whether the line was granted and charged.
func (l *ElasticLine) Granted() bool { return l.Response == ResponseGranted }

// OptionalQuantity is a quantity that a producer may leave out.
type OptionalQuantity struct {
	Quantity Quantity
	Given    bool
}

// elasticData is the form of `data`. Decimals may be strings or numbers.
type elasticData struct {
	Operation  string `json:"operation"`
	InstanceID string `json:"instance_id"`
	Consumer   struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	} `json:"consumer"`
	SessionID    string          `json:"session_id"`
	SessionState string          `json:"session_state"`
	SourceSeq    json.RawMessage `json:"source_seq"`
	Lines        []struct {
		LineNo         json.RawMessage `json:"line_no"`
		Item           string          `json:"item"`
		ItemVersion    string          `json:"item_version"`
		ItemQuantity   json.RawMessage `json:"item_quantity"`
		Response       json.RawMessage `json:"response"`
		ActivationID   string          `json:"activation_id"`
		MappedEntitled json.RawMessage `json:"mapped_entitled_count"`
		Used           json.RawMessage `json:"used"`
		Series         string          `json:"series"`
		Version        string          `json:"version"`
		MeterCost      json.RawMessage `json:"meter_cost"`
		MeterQuantity  json.RawMessage `json:"meter_quantity"`
		RefundOf       *refundOf       `json:"refund_of"`
		MetaData       json.RawMessage `json:"meta_data"`
	} `json:"lines"`
}

type refundOf struct {
	CorrelationID string          `json:"correlation_id"`
	LineNo        json.RawMessage `json:"line_no"`
}

// ReadElastic reads the data of an elastic.operation that was accepted. It is a pure function of data, so
// that aggregator and audit agree; an error means that data was damaged since.
func ReadElastic(data string) (ElasticOperation, error) {
	var d elasticData
	if err := json.Unmarshal([]byte(data), &d); err != nil {
		return ElasticOperation{}, fmt.Errorf("read an elastic.operation: %w", err)
	}
	op := ElasticOperation{
		Operation: d.Operation, InstanceID: d.InstanceID, ConsumerType: d.Consumer.Type, ConsumerID: d.Consumer.Value,
		SessionID: d.SessionID, SessionState: d.SessionState, SourceSeq: wholeOf(d.SourceSeq), Lines: make([]ElasticLine, len(d.Lines)),
	}
	for i := range d.Lines {
		in, out := &d.Lines[i], &op.Lines[i]
		*out = ElasticLine{
			LineNo: wholeOf(in.LineNo), Item: in.Item, ItemVersion: in.ItemVersion, ItemQuantity: optionalOf(in.ItemQuantity).Quantity,
			Response: bare(in.Response), ActivationID: in.ActivationID, Mapped: optionalOf(in.MappedEntitled), Used: optionalOf(in.Used),
			Series: in.Series, Version: in.Version, MeterCost: optionalOf(in.MeterCost), MeterQuantity: optionalOf(in.MeterQuantity).Quantity,
			MetaData: string(in.MetaData),
		}
		if in.RefundOf != nil {
			out.RefundCorrelation, out.RefundLine = in.RefundOf.CorrelationID, wholeOf(in.RefundOf.LineNo)
		}
	}
	return op, nil
}

// bare is a JSON number or string without its quotes; null and absent are "".
func bare(raw json.RawMessage) string {
	var s string
	if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil {
		return s
	}
	if string(raw) == "null" {
		return ""
	}
	return string(raw)
}

func optionalOf(raw json.RawMessage) OptionalQuantity {
	q, err := parseQuantity(bare(raw))
	return OptionalQuantity{Quantity: q, Given: err == nil}
}

// wholeOf is a whole number as accepted; 0 where there is none.
func wholeOf(raw json.RawMessage) int64 {
	q, err := parseQuantity(bare(raw))
	if err != nil {
		return 0
	}
	n := q.Big()
	return n.Quo(n, Int(1).Big()).Int64()
}
