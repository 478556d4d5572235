package usage

// Code is one reason an event is refused at the door or quarantined from the log, with what it means
// and what its sender can do. Codes are a contract: they appear in 422 answers, dead letters, metrics
// and the docs, and never change their meaning.
type Code struct{ Name, Meaning, Action string }

// Codes of a single event. The same code is a fault in a 422 over HTTP and the reason of a dead letter
// for an event published straight to NATS (docs/reference/event-codes.md).
const (
	CodeBadJSON         = "bad-json"
	CodeBadUTF8         = "bad-utf8"
	CodeDuplicateKey    = "duplicate-key"
	CodeTooDeep         = "too-deep"
	CodeNotObject       = "not-object"
	CodeTooLarge        = "event-too-large"
	CodeMissingAttr     = "missing-attribute"
	CodeBadAttr         = "bad-attribute"
	CodeUnknownType     = "unknown-type"
	CodeUnknownField    = "unknown-field"
	CodeMissingField    = "missing-field"
	CodeBadField        = "bad-field"
	CodeBadQuantity     = "bad-quantity"
	CodeNegative        = "negative-quantity"
	CodeBadTime         = "bad-time"
	CodeNaiveTime       = "naive-time"
	CodeTimeWindow      = "time-window"
	CodeBadSpan         = "bad-span"
	CodeSpanTooLong     = "span-too-long"
	CodeManyDimensions  = "too-many-dimensions"
	CodeLongDimension   = "dimension-too-long"
	CodeBadArithmetic   = "bad-arithmetic"
	CodeVoidOfVoid      = "void-of-void"
	CodeConflict        = "conflict"
	CodePoison          = "poison"
	CodeUndecodable     = "undecodable"
	CodeBadHeader       = "bad-header"
	CodeManyEvents      = "too-many-events"
	CodeUnsupportedForm = "unsupported-chunk"
)

// Codes lists every code once, in the order of the reference documentation, which is generated from it.
func Codes() []Code {
	return []Code{
		{CodeBadJSON, "the text is not JSON (RFC 8259)", "send valid JSON; the detail names the byte offset"},
		{CodeBadUTF8, "a string is not valid UTF-8 or holds half of a surrogate pair", "encode the text as UTF-8"},
		{CodeDuplicateKey, "an object names the same member twice; readers would disagree about its meaning", "send each member once"},
		{CodeTooDeep, "objects and arrays are nested more than 32 levels deep", "flatten the event"},
		{CodeNotObject, "an event must be a JSON object", "send an object, or an array of objects"},
		{CodeTooLarge, "the event is longer than the limit (64 KiB)", "send less data per event"},
		{CodeMissingAttr, "a required CloudEvents attribute is absent", "set specversion, id, source and type, and subject where the type is about an account"},
		{CodeBadAttr, "a CloudEvents attribute has a form that CloudEvents 1.0 forbids", "see the detail; specversion is \"1.0\", extension names are a-z and 0-9"},
		{CodeUnknownType, "no such event type", "use a type of the reference, or have it added to ingest.extra_types"},
		{CodeUnknownField, "the type has no such member in data", "remove it, or put it into dimensions"},
		{CodeMissingField, "a required member of data is absent", "add it"},
		{CodeBadField, "a member of data has a wrong kind or a value that is not allowed", "see the detail for what is allowed"},
		{CodeBadQuantity, "not a decimal, more than 9 fractional digits, or magnitude 1e20 and more", "send a JSON number or a string that holds one"},
		{CodeNegative, "a quantity that may not be negative is", "void the wrong event instead of subtracting"},
		{CodeBadTime, "not an RFC 3339 time with seconds and an offset; second 60 and more than 9 fractional digits are not taken", "send 2026-03-31T23:59:59Z"},
		{CodeNaiveTime, "the time has no offset, so nobody knows which instant it means", "append Z or +hh:mm"},
		{CodeTimeWindow, "the time lies too far in the past or in the future", "check the clock; older events need the scope events:backfill"},
		{CodeBadSpan, "start and end must be given both or neither, and end must be after start", "send a span of positive length"},
		{CodeSpanTooLong, "end is more than 400 days after start", "split the record"},
		{CodeManyDimensions, "more dimensions than the limit (64)", "keep the ones somebody groups by"},
		{CodeLongDimension, "a dimension's name is empty, or its name or value is longer than the limit (256 bytes)", "shorten it"},
		{CodeBadArithmetic, "meter_cost × item_quantity differs from meter_quantity by more than the tolerance, or a denied line charges something", "compute the line again in decimals"},
		{CodeVoidOfVoid, "the event voids a void, or itself", "send the voided event again under a new id"},
		{CodeConflict, "another event with the same source and id but other content came first; the first one counts", "use a new id, or void the first event"},
		{CodePoison, "the event broke the program that read it; it is kept and skipped", "report it with the raw bytes"},
		{CodeUndecodable, "the message is neither a chunk nor CloudEvents JSON", "publish the documented form with its Content-Type"},
		{CodeBadHeader, "the message carries headers that are not for producers (rollup, TTL, schedule)", "publish without them"},
		{CodeManyEvents, "more events in one NATS message than the limit (1,000)", "publish smaller batches"},
		{CodeUnsupportedForm, "the chunk has a version this program does not know", "upgrade the aggregator, then replay"},
	}
}
