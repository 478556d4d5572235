package usage

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Meters that types other than usage.metered count on (docs/reference/events.md).
const (
	MeterSMS      = "sms_credits"
	MeterVoice    = "voice_credits"
	MeterReturned = "credits_returned" // resolved to sms or voice by message_id when read
	MeterActivity = "activity"
	MeterElastic  = "elastic token"
)

// Count is what an event adds to which meter; meter "" means that it counts nothing. It reads only
// fields that survive the chunk codec, so ingest, aggregator and audit agree.
func (e *Event) Count() (meter string, q Quantity) {
	switch e.Type {
	case TypeMetered:
		if e.Metered == nil {
			return "", Quantity{}
		}
		return e.Metered.Meter, e.Metered.Quantity
	case TypeCharged:
		// Data is canonical and quotes inside strings are escaped, so a member found by its text is one.
		if strings.Contains(e.Data, `"channel":"voice"`) {
			return MeterVoice, e.Credits
		}
		return MeterSMS, e.Credits
	case TypeCreditReturned:
		return MeterReturned, e.Credits.Neg()
	case TypeActivity:
		if strings.Contains(e.Data, `"result":"success"`) {
			return MeterActivity, Int(1)
		}
	case TypeElastic:
		if anyLineGranted(e.Data) {
			return MeterElastic, e.Credits
		}
	}
	return "", Quantity{}
}

// ResponseGranted is the response of an elastic line that was granted and charged.
const ResponseGranted = "101"

// anyLineGranted walks /lines/*/response. A search for the text would also find it in meta_data, which
// is the client's own.
func anyLineGranted(data string) bool {
	if !strings.Contains(data, `"response":"`+ResponseGranted+`"`) {
		return false
	}
	dec := jsontext.NewDecoder(bytes.NewBufferString(data))
	for {
		token, err := dec.ReadToken()
		if err != nil {
			return false // the end; canonical data has no other error
		}
		if token.Kind() != '"' || token.String() != ResponseGranted || dec.StackDepth() != 3 {
			continue
		}
		p := dec.StackPointer()
		if p.LastToken() == "response" && strings.HasPrefix(string(p), "/lines/") {
			if kind, n := dec.StackIndex(3); kind == '{' && n%2 == 0 { // a value, not a member's name
				return true
			}
		}
	}
}
