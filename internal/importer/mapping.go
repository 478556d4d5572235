package importer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// Mapping says what the parts of a file mean. It is written in YAML; unknown keys are faults.
type Mapping struct {
	// Format is csv, combined (Apache combined or common log), ndjson (one JSON object a line) or events
	// (one CloudEvent a line, sent as it stands; nothing else may be set then).
	Format string `yaml:"format"`
	// CSV says how rows are cut; only with format csv.
	CSV CSVRule `yaml:"csv"`
	// Missing lists the texts that mean "no value". Default: "" for csv and ndjson, "-" for combined.
	Missing []string `yaml:"missing"`
	// Source is the CloudEvents source of every event (a template).
	Source string `yaml:"source"`
	// Subject is the account of every event that does not name its own (a template).
	Subject string `yaml:"subject"`
	// Time says when a record happened.
	Time TimeRule `yaml:"time"`
	// Events are what one record becomes: each entry one event, or one per member of `each`.
	Events []EventRule `yaml:"events"`

	source, subject template
	zone            *time.Location
	from            template
}

// CSVRule says how a CSV file is cut into columns.
type CSVRule struct {
	Delimiter string   `yaml:"delimiter"` // one character; default ","
	Header    *bool    `yaml:"header"`    // whether the first row names the columns; default true
	Columns   []string `yaml:"columns"`   // the names where there is no header

	comma rune
}

func (c *CSVRule) header() bool { return c.Header == nil || *c.Header }

// TimeRule reads the time of a record.
type TimeRule struct {
	// From is the template of the text that holds the time.
	From string `yaml:"from"`
	// Layout is rfc3339, combined (02/Jan/2006:15:04:05 -0700), unix, unix_ms, unix_us, unix_ns, or a
	// layout of Go's time package. Any number of fractional digits is read.
	Layout string `yaml:"layout"`
	// Zone is the time zone of a layout without one: UTC or an IANA name. There is no default.
	Zone string `yaml:"zone"`
	// Ambiguous picks the earlier or the later instant of a civil time that a clock change repeats.
	// Without it such a line is a fault, as is always a time that a clock change skips.
	Ambiguous string `yaml:"ambiguous"`
}

// EventRule is one event made from a record.
type EventRule struct {
	// ID is the template of the event's id; default {file}:{line}, with :{key} where `each` is set and the
	// entry's number where there are several.
	ID string `yaml:"id"`
	// Type is the CloudEvents type; default usage.metered.
	Type string `yaml:"type"`
	// Subject overrides the mapping's.
	Subject string `yaml:"subject"`
	// Each is a path to a JSON object or array: one event per member, with {key} and {value}.
	Each string `yaml:"each"`
	// Counter makes data.quantity the difference of two cumulative readings.
	Counter *CounterRule `yaml:"counter"`
	// Data is the event's data. Strings are templates and become JSON strings; tagged !number or !bool
	// they become JSON numbers or booleans; YAML numbers and booleans are copied.
	Data yaml.Node `yaml:"data"`

	id, typ, subject template
	each             []string
	data             *shape
}

// CounterRule turns cumulative readings into usage: reading minus the previous reading of the same key
// in the same file. The first reading of a key gives no event.
type CounterRule struct {
	// Reading is the template of the cumulative value, a decimal.
	Reading string `yaml:"reading"`
	// Key tells counters apart; default: the entry, and {key} of each.
	Key string `yaml:"key"`
	// Reset says what a reading below the previous one means: fault (default), or restart, where the
	// counter began again at 0 and the whole reading is usage.
	Reset string `yaml:"reset"`

	reading, key template
	zeroReset    bool
}

// MappingError is a mapping that cannot be used, with every fault found.
type MappingError struct {
	File   string
	Faults []string
}

func (e *MappingError) Error() string {
	return fmt.Sprintf("mapping %s: %s", e.File, strings.Join(e.Faults, "; "))
}

// Verbatim is the mapping of NDJSON files whose lines are CloudEvents already.
func Verbatim() *Mapping { return &Mapping{Format: "events"} }

// ParseMapping reads a mapping; name is for error messages. Errors are *MappingError.
func ParseMapping(name string, text []byte) (*Mapping, error) {
	m := &Mapping{}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(m); err != nil {
		var typed *yaml.TypeError
		if errors.As(err, &typed) {
			return nil, &MappingError{File: name, Faults: typed.Errors}
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("is empty")
		}
		return nil, &MappingError{File: name, Faults: []string{err.Error()}}
	}
	c := &compiler{}
	c.mapping(m)
	if len(c.faults) > 0 {
		return nil, &MappingError{File: name, Faults: c.faults}
	}
	return m, nil
}

// compiler collects every fault of a mapping instead of the first.
type compiler struct{ faults []string }

func (c *compiler) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

func (c *compiler) template(where, src string) template {
	t, err := parseTemplate(src)
	if err != nil {
		c.fault("%s: %v", where, err)
	}
	return t
}

func (c *compiler) mapping(m *Mapping) {
	switch m.Format {
	case "csv", "combined", "ndjson":
	case "events":
		if m.Source != "" || m.Time.From != "" || len(m.Events) > 0 {
			c.fault("format events sends every line as it stands; remove the other keys")
		}
		return
	default:
		c.fault("format: %q is not one of csv, combined, ndjson, events", m.Format)
		return
	}
	c.csv(m)
	if m.Missing == nil {
		m.Missing = []string{""}
		if m.Format == "combined" {
			m.Missing = []string{"-"}
		}
	}
	if m.Source == "" {
		c.fault("source: must be set, for example %q", "import/gateway")
	}
	m.source = c.template("source", m.Source)
	m.subject = c.template("subject", m.Subject)
	c.time(m)
	if len(m.Events) == 0 {
		c.fault("events: must list at least one event")
	}
	for i := range m.Events {
		c.event(m, i)
	}
}

func (c *compiler) csv(m *Mapping) {
	r := &m.CSV
	if m.Format != "csv" {
		if r.Delimiter != "" || r.Header != nil || r.Columns != nil {
			c.fault("csv: only with format csv")
		}
		return
	}
	r.comma = ','
	if r.Delimiter != "" {
		d, size := utf8.DecodeRuneInString(r.Delimiter)
		if size != len(r.Delimiter) || strings.ContainsRune("\"\r\n", d) || d == utf8.RuneError {
			c.fault("csv.delimiter: %q is not one character that can separate columns", r.Delimiter)
		}
		r.comma = d
	}
	if r.header() && len(r.Columns) > 0 {
		c.fault("csv.columns: only with csv.header: false")
	}
	if !r.header() && len(r.Columns) == 0 {
		c.fault("csv.columns: must name the columns of a file without header")
	}
}

func (c *compiler) time(m *Mapping) {
	t := &m.Time
	if m.Format == "combined" {
		if t.From == "" {
			t.From = "{time}"
		}
		if t.Layout == "" {
			t.Layout = "combined"
		}
	}
	if t.From == "" || t.Layout == "" {
		c.fault("time: from and layout must be set")
		return
	}
	if !strings.Contains(t.From, "{") {
		t.From = "{" + t.From + "}" // a bare column name is what people write first
	}
	m.from = c.template("time.from", t.From)
	if t.Ambiguous != "" && t.Ambiguous != "earlier" && t.Ambiguous != "later" {
		c.fault("time.ambiguous: %q is not earlier or later", t.Ambiguous)
	}
	zoned := layoutHasZone(t.Layout)
	switch {
	case zoned && t.Zone != "":
		c.fault("time.zone: layout %q carries its own offset", t.Layout)
	case !zoned && t.Zone == "":
		c.fault("time.zone: must be set, for example UTC, because layout %q has no offset", t.Layout)
	case !zoned:
		loc, err := time.LoadLocation(t.Zone)
		if err != nil || t.Zone == "Local" {
			c.fault("time.zone: %q is not UTC or an IANA time zone", t.Zone)
		}
		m.zone = loc
	}
}

func (c *compiler) event(m *Mapping, i int) {
	e := &m.Events[i]
	where := fmt.Sprintf("events[%d]", i)
	if e.ID == "" {
		e.ID = "{file}:{line}"
		if len(m.Events) > 1 {
			e.ID += fmt.Sprintf(":%d", i)
		}
		if e.Each != "" {
			e.ID += ":{key}"
		}
	}
	e.id = c.template(where+".id", e.ID)
	// What tells about an account or a subscription has an identity of its own, and repeating it is a duplicate.
	if !e.id.names("line") && !usage.Directory(e.Type) {
		c.fault("%s.id: must contain {line}; ids made of values lose usage when two records look the same", where)
	}
	if e.Each != "" && !e.id.names("key") {
		c.fault("%s.id: must contain {key}, or the members of each would be one event", where)
	}
	if e.Type == "" {
		e.Type = "usage.metered"
	}
	e.typ = c.template(where+".type", e.Type)
	e.subject = m.subject
	if e.Subject != "" {
		e.subject = c.template(where+".subject", e.Subject)
	}
	if e.Each != "" {
		if m.Format != "ndjson" {
			c.fault("%s.each: only with format ndjson", where)
		}
		path, err := parsePath(e.Each)
		if err != nil {
			c.fault("%s.each: %v", where, err)
		}
		e.each = path
	}
	if e.Counter != nil {
		c.counter(e, where)
	}
	if e.Data.Kind == 0 {
		c.fault("%s.data: must be set", where)
		return
	}
	e.data = c.shape(&e.Data, where+".data")
	if e.data == nil {
		return
	}
	if e.data.kind != shapeObject {
		c.fault("%s.data: must be a map", where)
		return
	}
	hasQuantity := slices.ContainsFunc(e.data.members, func(s member) bool { return s.name == "quantity" })
	if e.Counter != nil && hasQuantity {
		c.fault("%s.data.quantity: comes from the counter; remove one of them", where)
	}
}

func (c *compiler) counter(e *EventRule, where string) {
	k := e.Counter
	if k.Reading == "" {
		c.fault("%s.counter.reading: must be set", where)
	}
	k.reading = c.template(where+".counter.reading", k.Reading)
	if k.Key == "" && e.Each != "" {
		k.Key = "{key}"
	}
	k.key = c.template(where+".counter.key", k.Key)
	switch k.Reset {
	case "", "fault":
	case "restart":
		k.zeroReset = true
	default:
		c.fault("%s.counter.reset: %q is not fault or restart", where, k.Reset)
	}
}

func (t *template) names(name string) bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.name == name })
}

// columns lists the column names a mapping uses, so that a misspelled one fails before the first row.
func (m *Mapping) columns() []string {
	var out []string
	add := func(t *template) {
		for _, p := range t.parts {
			switch p.name {
			case "", "file", "line":
			default:
				if n := strings.TrimPrefix(p.name, "column."); !slices.Contains(out, n) {
					out = append(out, n)
				}
			}
		}
	}
	add(&m.source)
	add(&m.from)
	for i := range m.Events {
		e := &m.Events[i]
		add(&e.id)
		add(&e.typ)
		add(&e.subject)
		if e.Counter != nil {
			add(&e.Counter.reading)
			add(&e.Counter.key)
		}
		e.data.templates(add)
	}
	return out
}

// open starts reading a file in the mapping's format.
func (m *Mapping) open(r io.Reader) (reader, error) {
	switch m.Format {
	case "csv":
		return newCSV(r, m.CSV, m.columns())
	case "combined":
		for _, name := range m.columns() {
			if _, ok := combinedColumns[name]; !ok {
				return nil, fmt.Errorf("the mapping names column %q; a combined log has client, ident, user, time, request, method, path, protocol, status, bytes, referer, agent", name)
			}
		}
		return &combinedReader{l: newLines(r)}, nil
	}
	return &jsonReader{l: newLines(r)}, nil
}
