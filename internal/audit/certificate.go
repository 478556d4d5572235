package audit

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// DifferencesMax is how many differences a certificate lists; it counts all of them.
const DifferencesMax = 100

// Certificate is the answer of an audit. SHA256 is that of the certificate's canonical JSON (RFC 8785)
// without the member sha256.
type Certificate struct {
	At              string         `json:"at"` // when the audit began, RFC 3339
	Seconds         string         `json:"seconds"`
	OK              bool           `json:"ok"`
	Tenant          string         `json:"tenant,omitempty"` // the only one audited
	From            string         `json:"from,omitempty"`   // months audited
	To              string         `json:"to,omitempty"`
	Full            bool           `json:"full"`
	Messages        uint64         `json:"messages"`
	Events          uint64         `json:"events"`
	DifferenceCount uint64         `json:"difference_count"`
	SHA256          string         `json:"sha256,omitempty"`
	Shards          []ShardReport  `json:"shards"`
	Tenants         []TenantReport `json:"tenants"`
	Differences     []Difference   `json:"differences"`
}

// ShardReport is what was audited of a shard.
type ShardReport struct {
	Shard       uint16 `json:"shard"`
	Partition   uint16 `json:"partition"`
	Incarnation uint16 `json:"incarnation"`
	From        uint64 `json:"from"` // first and last sequence compared with the log
	To          uint64 `json:"to"`
	Messages    uint64 `json:"messages"`
	Missing     uint64 `json:"missing"`         // sequences the log does not have
	LogSeq      uint64 `json:"log_seq"`         // last sequence of the log when the audit began
	Pending     uint64 `json:"pending"`         // messages of the log that were not counted yet
	InFlight    bool   `json:"in_flight"`       // a batch was on its way for so long that the rollup cells it touched were left out
	CountedTo   string `json:"counted_to"`      // the log's timestamp of the last message counted, RFC 3339
	LastHash    string `json:"hash"`            // of the message at To
	Ended       bool   `json:"ended,omitempty"` // a later incarnation exists
}

// TenantReport is a tenant's month: events of the log by their own time, and what the tables make of them.
// What cannot be read at all is in the month in which it was logged.
type TenantReport struct {
	Tenant      string          `json:"tenant"`
	Month       string          `json:"month"`
	Accepted    uint64          `json:"accepted"`
	Stored      uint64          `json:"stored"`
	Duplicate   uint64          `json:"duplicate"`
	Conflict    uint64          `json:"conflict"`
	Quarantined uint64          `json:"quarantined"`
	Voided      uint64          `json:"voided"`   // rows of sign -1
	RawRows     uint64          `json:"raw_rows"` // rows of sign 1
	Meters      []MeterQuantity `json:"meters"`
}

// MeterQuantity is a meter's signed sum in a month, from raw rows and pieces and from the rollup.
type MeterQuantity struct {
	Meter  string `json:"meter"`
	Raw    string `json:"raw"`
	Rollup string `json:"rollup"`
}

// Difference is one place where two of log, ledger, raw rows, pieces and rollups disagree.
type Difference struct {
	Check  string `json:"check"`
	Tenant string `json:"tenant,omitempty"`
	Month  string `json:"month,omitempty"`
	Shard  uint16 `json:"shard"`
	Seq    uint64 `json:"seq,omitempty"`
	SeqTo  uint64 `json:"seq_to,omitempty"` // last of a run of sequences
	Idx    uint32 `json:"idx"`
	Source string `json:"source,omitempty"`
	ID     string `json:"id,omitempty"`
	Cell   string `json:"cell,omitempty"` // of a rollup
	What   string `json:"what"`
	Want   string `json:"want,omitempty"`
	Have   string `json:"have,omitempty"`
}

// Checks, as named in differences.
const (
	CheckLog       = "log"    // the log lacks, or has changed, what was counted
	CheckLedger    = "ledger" // the ledger against itself and the log
	CheckRaw       = "raw"    // raw rows against the log
	CheckPieces    = "pieces" // pieces against their events
	CheckDead      = "dead_letters"
	CheckDuplicate = "duplicates"
	CheckIdentity  = "identity" // an identity counted twice
	CheckVoid      = "void"
	CheckRollup    = "rollup"
	CheckDirectory = "directory"
	CheckElastic   = "elastic" // lines of elastic operations against their events
	CheckVersion   = "version" // closed versions against what was decided on
	CheckStorage   = "storage" // parts that ClickHouse put aside, rows of nobody
)

// findings gathers differences. A run for one tenant keeps those that are its own or nobody's.
type findings struct {
	tenant string
	total  uint64
	order  []string                // checks, as they first found something
	listed map[string][]Difference // the first of each check
}

func newFindings(tenant string) *findings {
	return &findings{tenant: tenant, listed: map[string][]Difference{}}
}

func (f *findings) add(d Difference) {
	if f.tenant != "" && d.Tenant != "" && d.Tenant != f.tenant {
		return
	}
	if all := f.listed[d.Check]; len(all) > 0 && all[len(all)-1].extend(d) {
		return
	}
	f.total++
	if len(f.listed[d.Check]) == 0 {
		f.order = append(f.order, d.Check)
	}
	if !f.full(d.Check) {
		f.listed[d.Check] = append(f.listed[d.Check], d)
	}
}

// extend makes one difference of the same thing at consecutive sequences.
func (d *Difference) extend(next Difference) bool {
	last := max(d.Seq, d.SeqTo)
	if next.Seq != last+1 {
		return false
	}
	run := *d
	run.Seq, run.SeqTo = next.Seq, next.SeqTo
	if run != next || d.ID != "" || d.Want != "" {
		return false
	}
	d.SeqTo = max(next.Seq, next.SeqTo)
	return true
}

// full reports that a check has listed places enough; what follows is only counted.
func (f *findings) full(check string) bool { return len(f.listed[check]) >= DifferencesMax }

// differences is what the certificate lists: no check hides another, however much it found.
func (f *findings) differences() []Difference {
	take := map[string]int{}
	for left, more := DifferencesMax, true; more && left > 0; {
		more = false
		for _, check := range f.order {
			if left > 0 && take[check] < len(f.listed[check]) {
				take[check]++
				left--
				more = true
			}
		}
	}
	all := []Difference{}
	for _, check := range f.order {
		all = append(all, f.listed[check][:take[check]]...)
	}
	return all
}

// certificate puts together what was found.
func (r *run) certificate(started time.Time) *Certificate {
	c := &Certificate{
		At: started.UTC().Format(time.RFC3339Nano), Seconds: time.Since(started).Round(time.Millisecond).String(),
		OK: r.found.total == 0, Tenant: r.Tenant, Full: r.Full, Messages: r.done, Events: r.months.events(),
		DifferenceCount: r.found.total, Differences: r.found.differences(), Shards: r.reports, Tenants: r.months.reports(),
	}
	if r.From != nil {
		c.From = r.From.String()
	}
	if r.To != nil {
		c.To = r.To.String()
	}
	return c
}

// Sum is the SHA-256 that SHA256 must hold.
func (c *Certificate) Sum() (string, error) {
	unsealed := *c
	unsealed.SHA256 = ""
	text, err := json.Marshal(&unsealed)
	if err != nil {
		return "", fmt.Errorf("write the certificate: %w", err)
	}
	v := jsontext.Value(text)
	if err := v.Canonicalize(); err != nil {
		return "", fmt.Errorf("canonicalize the certificate: %w", err)
	}
	sum := sha256.Sum256(v)
	return hex.EncodeToString(sum[:]), nil
}

// Add puts differences into the certificate that others than the auditor found, and seals it again.
func (c *Certificate) Add(found []Difference) error {
	c.DifferenceCount += uint64(len(found))
	c.OK = c.DifferenceCount == 0
	c.Differences = append(c.Differences, found[:min(len(found), max(DifferencesMax-len(c.Differences), 0))]...)
	return c.seal()
}

func (c *Certificate) seal() (err error) {
	c.SHA256, err = c.Sum()
	return err
}

// months counts events by tenant and month.
type months struct {
	all  map[tenantMonth]*TenantReport
	last *TenantReport // events of a chunk are nearly always of one month
	key  tenantMonth
	end  int64 // last is valid for [start, end), Unix ms
	from int64
}

type tenantMonth struct {
	tenant string
	month  usage.Month
}

func newMonths() *months { return &months{all: map[tenantMonth]*TenantReport{}} }

// of is the row of a tenant's event at a Unix millisecond.
func (m *months) of(tenant string, ms int64) *TenantReport {
	if m.last != nil && m.key.tenant == tenant && ms >= m.from && ms < m.end {
		return m.last
	}
	month := usage.MonthOf(usage.At(ms * 1e6))
	m.from, m.end = month.Start().Millis(), month.End().Millis()
	m.key = tenantMonth{tenant, month}
	m.last = m.get(m.key)
	return m.last
}

func (m *months) get(k tenantMonth) *TenantReport {
	t := m.all[k]
	if t == nil {
		t = &TenantReport{Tenant: k.tenant, Month: k.month.String(), Meters: []MeterQuantity{}}
		m.all[k] = t
	}
	return t
}

func (m *months) events() (n uint64) {
	for t := range maps.Values(m.all) {
		n += t.Accepted
	}
	return n
}

func (m *months) reports() []TenantReport {
	rows := make([]TenantReport, 0, len(m.all))
	for t := range maps.Values(m.all) {
		slices.SortFunc(t.Meters, func(a, b MeterQuantity) int { return cmp.Compare(a.Meter, b.Meter) })
		rows = append(rows, *t)
	}
	slices.SortFunc(rows, func(a, b TenantReport) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Month, b.Month))
	})
	return rows
}
