package directory

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// elastic is instances and line items of elastic tokens. What an item costs is in the operations, which the access
// product decides: rate tables are kept in the log and change nothing here.
//
// An instance is known from its creation, or from the first line item mapped to it, whichever happened first;
// its account is that of its first creation. A line item is known from its first mapping; what changes it
// before has no effect. OBSOLETE is for ever.
type elastic struct {
	instances map[string]*instance
	items     map[string]*lineItem
}

type instance struct {
	account string
	created bool
	since   int64
}

type lineItem struct {
	steps    []LineItem
	obsolete bool
}

// LineItem is a number of elastic tokens that an instance may use, as it was at an instant.
type LineItem struct {
	ActivationID, InstanceID string
	Quantity                 string // exact decimal
	Start, End               int64  // Unix ms; End 0: none
	State                    string // DEPLOYED, INACTIVE or OBSOLETE
	Series                   string
	Since                    int64 // when this became so
}

type elasticData struct {
	InstanceID   string          `json:"instance_id"`
	ActivationID string          `json:"activation_id"`
	Quantity     json.RawMessage `json:"quantity"`
	Start        string          `json:"start"`
	End          string          `json:"end"`
	State        string          `json:"state"`
	Series       string          `json:"series"`
}

func (d *elastic) apply(s *State, e *parsed) {
	var in elasticData
	if json.Unmarshal([]byte(e.Data), &in) != nil {
		return
	}
	switch e.Type {
	case "instance.created":
		i := d.instance(in.InstanceID, e.At)
		if i.created {
			s.refuse(e, ruleInstanceExists, "instance "+in.InstanceID+" was created before; it stays with account "+i.account)
			return
		}
		i.account, i.created = e.Account, true
	case "lineitem.mapped", "lineitem.changed":
		d.change(s, e, &in)
	}
}

// instance is the instance, made known at the instant. Events come in time order.
func (d *elastic) instance(id string, at int64) *instance {
	if d.instances == nil {
		d.instances = map[string]*instance{}
	}
	i := d.instances[id]
	if i == nil {
		i = &instance{since: at}
		d.instances[id] = i
	}
	return i
}

func (d *elastic) change(s *State, e *parsed, in *elasticData) {
	mapped := e.Type == "lineitem.mapped"
	item := d.items[in.ActivationID]
	if item == nil {
		if !mapped {
			return // nobody has mapped it yet: a late mapping with an earlier time makes this count
		}
		if d.items == nil {
			d.items = map[string]*lineItem{}
		}
		item = &lineItem{}
		d.items[in.ActivationID] = item
	}
	if item.obsolete && in.State != "" && in.State != "OBSOLETE" {
		s.refuse(e, ruleLineItemObsolete, "line item "+in.ActivationID+" is OBSOLETE and stays so")
		return
	}
	next := LineItem{ActivationID: in.ActivationID}
	if n := len(item.steps); n > 0 {
		next = item.steps[n-1]
	}
	next.Since = e.At
	if mapped {
		d.instance(in.InstanceID, e.At)
		next.InstanceID, next.Series, next.Start, next.End = in.InstanceID, in.Series, instantOf(in.Start), 0
	}
	if q := decimalOf(in.Quantity); q != "" {
		next.Quantity = q
	}
	if in.End != "" {
		next.End = instantOf(in.End)
	}
	next.State = cmp.Or(in.State, next.State)
	item.obsolete = next.State == "OBSOLETE"
	item.steps = append(item.steps, next)
}

// decimalOf is the text of a JSON number or of a decimal in a string; "" where there is none.
func decimalOf(raw json.RawMessage) string {
	text := strings.Trim(string(raw), `"`)
	if text == "null" {
		return ""
	}
	return text
}

// instantOf is the Unix ms of an RFC 3339 time that was accepted; 0 where there is none.
func instantOf(text string) int64 {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0
	}
	return t.UnixMilli()
}

// Instance is the account of an instance, "" if no creation names one, and since when the instance is known;
// false if it is not.
func (s *State) Instance(id string) (account string, since int64, ok bool) {
	i := s.elastic.instances[id]
	if i == nil {
		return "", 0, false
	}
	return i.account, i.since, true
}

// LineItem is a line item at an instant; false if it was not mapped by then.
func (s *State) LineItem(activation string, at int64) (LineItem, bool) {
	item := s.elastic.items[activation]
	if item == nil {
		return LineItem{}, false
	}
	n := upTo(item.steps, at, func(step *LineItem) int64 { return step.Since })
	if n == 0 {
		return LineItem{}, false
	}
	return item.steps[n-1], true
}

// LineItems are the ids of all line items, sorted.
func (s *State) LineItems() []string { return slices.Sorted(maps.Keys(s.elastic.items)) }

// Instances are the instances whose creation names the account.
func (s *State) Instances(account string) []string {
	var ids []string
	for id, i := range s.elastic.instances {
		if i.created && i.account == account {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
