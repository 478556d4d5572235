package directory

import (
	"encoding/json"
	"strings"
)

// data is what the fold of the tree reads of an event's data: texts as they are, numbers as they are spelled.
type data struct {
	name, kind, parent, newParent, mode, trialEnds, currency, reseller, to string
	service, plan, status, start, end                                      string
	meter, meterID, element, aggregation, unit, scale                      string
	sourceSeq                                                              string
}

// field is where a value goes; nil for one that nobody reads.
func (d *data) field(key string) *string {
	switch key {
	case "name":
		return &d.name
	case "kind":
		return &d.kind
	case "parent_account_id":
		return &d.parent
	case "new_parent_account_id":
		return &d.newParent
	case "contract_mode":
		return &d.mode
	case "trial_ends_at":
		return &d.trialEnds
	case "currency":
		return &d.currency
	case "reseller":
		return &d.reseller
	case "to":
		return &d.to
	case "service":
		return &d.service
	case "plan":
		return &d.plan
	case "status":
		return &d.status
	case "start":
		return &d.start
	case "end":
		return &d.end
	case "source_seq":
		return &d.sourceSeq
	}
	return d.meterField(key)
}

func (d *data) meterField(key string) *string {
	switch key {
	case "meter":
		return &d.meter
	case "meter_id":
		return &d.meterID
	case "element":
		return &d.element
	case "aggregation":
		return &d.aggregation
	case "unit":
		return &d.unit
	case "scale":
		return &d.scale
	}
	return nil
}

// read fills d from a JSON object of the log, whose spelling was checked at the door: it walks the first level
// and copies nothing that has no escapes. encoding/json takes ten times as long, for each of a million events.
func (d *data) read(text string) bool {
	if text == "" { // an event without data, such as account.deleted
		return true
	}
	i := space(text, 0)
	if i >= len(text) || text[i] != '{' {
		return false
	}
	for i = space(text, i+1); i < len(text) && text[i] != '}'; {
		if text[i] == ',' {
			i = space(text, i+1)
		}
		key, after, ok := quote(text, i)
		if !ok {
			return false
		}
		if i = space(text, after); i >= len(text) || text[i] != ':' {
			return false
		}
		if i = space(text, i+1); i >= len(text) {
			return false
		}
		into := d.field(key)
		switch text[i] {
		case '"':
			value, after, ok := quote(text, i)
			if !ok {
				return false
			}
			if into != nil {
				*into = value
			}
			i = after
		case '{', '[':
			if i, ok = nested(text, i); !ok {
				return false
			}
		default:
			from := i
			for i < len(text) && !strings.ContainsRune(",}] \t\r\n", rune(text[i])) {
				i++
			}
			if into != nil && text[from:i] != "null" {
				*into = text[from:i]
			}
		}
		i = space(text, i)
	}
	return i < len(text)
}

func space(text string, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r') {
		i++
	}
	return i
}

// quote reads the JSON string that begins at i; after is behind its last quotation mark.
func quote(text string, i int) (value string, after int, ok bool) {
	if i >= len(text) || text[i] != '"' {
		return "", i, false
	}
	escaped := false
	for j := i + 1; j < len(text); j++ {
		switch text[j] {
		case '\\':
			escaped = true
			j++
		case '"':
			if !escaped {
				return text[i+1 : j], j + 1, true
			}
			value, ok = unescape(text[i : j+1])
			return value, j + 1, ok
		}
	}
	return "", i, false
}

func unescape(quoted string) (string, bool) {
	var value string
	err := json.Unmarshal([]byte(quoted), &value)
	return value, err == nil
}

// nested is behind the object or array that begins at i.
func nested(text string, i int) (after int, ok bool) {
	depth := 0
	for i < len(text) {
		switch text[i] {
		case '"':
			if _, i, ok = quote(text, i); !ok {
				return i, false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1, true
			}
		}
		i++
	}
	return i, false
}
