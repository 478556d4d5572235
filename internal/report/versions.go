package report

import (
	"context"
	"errors"
	"math/big"
	"slices"
	"strconv"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Version is a closed version of a month: a cut of the log, and what was stored of it.
type Version struct {
	Version     int               `json:"version"`
	ClosedAt    Instant           `json:"closed_at"`
	AsOf        Instant           `json:"as_of" doc:"The version holds what was recorded at or before this instant,"`
	Positions   map[string]uint64 `json:"positions" doc:"and stands at or below this sequence of its shard"`
	Rows        int               `json:"rows"`
	Figures     int               `json:"figures" doc:"Users of STA and costs of Secure Connect, beside the rows"`
	Adjustments int               `json:"adjustments" doc:"Figures that it changed against the version before it"`
	SHA256      string            `json:"sha256" doc:"Of the canonical rows (docs/adr/0013)"`
	ClosedBy    string            `json:"closed_by" doc:"Id of the API key, or automatic"`
	Reason      string            `json:"reason,omitempty" doc:"Why it was closed in spite of a declared gap"`
	CloseID     string            `json:"close_id"`
	cut         Cut
}

// Cut is the state of the log that the version was made from.
func (v Version) Cut() Cut { return v.cut }

// A close that was tried again may have stored its row twice, alike. month_published takes one of them; so does the reader
// of this, which is asked by every answer there is, for half of the cost.
const publishedVersions = `
SELECT CAST(month, 'String') AS month_, version, close_id, toUnixTimestamp64Milli(closed_at), toUnixTimestamp64Milli(as_of), shards, seqs,
    rows, figures, adjustments, sha256, closed_by, reason
FROM {{db}}.month_versions
WHERE tenant = {tenant:String} AND ({month:String} = '' OR month = {month:String})
ORDER BY month, version`

// Versions are the closed versions of a month, oldest first; none where it was never closed.
func (r *Reports) Versions(ctx context.Context, tenant string, m usage.Month) ([]Version, error) {
	all, err := r.versions(ctx, tenant, m.String())
	return all[m.String()], err
}

// versions are those of one month, or of all for "".
func (r *Reports) versions(ctx context.Context, tenant, month string) (map[string][]Version, error) {
	all := map[string][]Version{}
	params := map[string]any{"tenant": tenant, "month": month}
	err := r.query(ctx, "read the closed versions", publishedVersions, params, func(row warehouse.Rows) error {
		var of string
		var version uint32
		var shards []uint16
		var seqs []uint64
		var rows, figures, adjustments uint64
		v := Version{Positions: map[string]uint64{}}
		if err := row.Scan(&of, &version, &v.CloseID, (*int64)(&v.ClosedAt), (*int64)(&v.AsOf), &shards, &seqs,
			&rows, &figures, &adjustments, &v.SHA256, &v.ClosedBy, &v.Reason); err != nil {
			return err
		}
		if last, ok := newest(all[of]); ok && last.Version == int(version) {
			return nil
		}
		v.Version, v.Rows, v.Figures, v.Adjustments = int(version), int(rows), int(figures), int(adjustments)
		v.cut = Cut{AsOf: int64(v.AsOf), Shards: map[uint16]uint64{}}
		for i, shard := range shards {
			v.cut.Shards[shard] = seqs[i]
		}
		v.Positions = v.cut.positions()
		all[of] = append(all[of], v)
		return nil
	})
	return all, err
}

// newest is the last of a month's versions; false where it was never closed.
func newest(versions []Version) (Version, bool) {
	if len(versions) == 0 {
		return Version{}, false
	}
	return versions[len(versions)-1], true
}

// Version is one closed version of a month; 0 is the newest. A month that has none is CodeNoVersion.
func (r *Reports) Version(ctx context.Context, tenant string, m usage.Month, version int) (Version, error) {
	all, err := r.Versions(ctx, tenant, m)
	if err != nil {
		return Version{}, err
	}
	return pick(all, m, version)
}

// pick is what Version finds, of the versions of a month.
func pick(all []Version, m usage.Month, version int) (Version, error) {
	if v, ok := newest(all); ok && version == 0 {
		return v, nil
	}
	i := slices.IndexFunc(all, func(v Version) bool { return v.Version == version })
	if i >= 0 {
		return all[i], nil
	}
	detail := "month " + m.String() + " has no version " + strconv.Itoa(version)
	if n := len(all); n > 0 {
		detail += "; the newest is " + strconv.Itoa(all[n-1].Version)
	} else {
		detail = "month " + m.String() + " is not closed: it has no versions"
	}
	return Version{}, &Error{Code: CodeNoVersion, Parameter: "version", Detail: detail}
}

// versionCut is the cut of a closed version.
func (r *Reports) versionCut(ctx context.Context, tenant string, m usage.Month, version int) (Cut, error) {
	v, err := r.Version(ctx, tenant, m, version)
	return v.cut, err
}

const storedRows = `
SELECT account, account_name, CAST(plan, 'String') AS plan_, CAST(meter, 'String') AS meter_, CAST(unit, 'String') AS unit_, CAST(region, 'String') AS region_,
    CAST(platform, 'String') AS platform_, trial, resolved, ifNull(toString(quantity), ''), events, ifNull(toString(quantity_tree), ''), events_tree,
    ifNull(toUnixTimestamp64Milli(first_at), 0), ifNull(toUnixTimestamp64Milli(last_at), 0)
FROM {{db}}.month_rows
WHERE tenant = {tenant:String} AND month = {month:String} AND close_id = {close_id:String}
ORDER BY number`

// StoredRows are the monthly aggregates of a closed version, as they were stored.
func (r *Reports) StoredRows(ctx context.Context, tenant string, m usage.Month, closeID string) ([]MonthRow, error) {
	rows := []MonthRow{}
	err := r.query(ctx, "read the rows of a version", storedRows, stored(tenant, m, closeID), func(row warehouse.Rows) error {
		var o MonthRow
		err := row.Scan(&o.Account, &o.AccountName, &o.Plan, &o.Meter, &o.Unit, &o.Region, &o.Platform, &o.Trial, &o.Resolved,
			&o.Quantity, &o.Events, &o.QuantityTree, &o.EventsTree, (*int64)(&o.FirstAt), (*int64)(&o.LastAt))
		rows = append(rows, o)
		return err
	})
	return rows, err
}

const storedFigures = `
SELECT account, CAST(plan, 'String') AS plan_, CAST(meter, 'String') AS meter_, CAST(region, 'String') AS region_, CAST(platform, 'String') AS platform_,
    trial, CAST(measure, 'String') AS measure_, value, cost, CAST(currency, 'String') AS currency_
FROM {{db}}.month_figures
WHERE tenant = {tenant:String} AND month = {month:String} AND close_id = {close_id:String}
ORDER BY number`

// StoredFigures are the figures of a closed version beside its rows, as they were stored.
func (r *Reports) StoredFigures(ctx context.Context, tenant string, m usage.Month, closeID string) ([]Figure, error) {
	var figures []Figure
	err := r.query(ctx, "read the figures of a version", storedFigures, stored(tenant, m, closeID), func(row warehouse.Rows) error {
		var f Figure
		err := row.Scan(&f.Account, &f.Plan, &f.Meter, &f.Region, &f.Platform, &f.Trial, &f.Measure, &f.Value, &f.Cost, &f.Currency)
		figures = append(figures, f)
		return err
	})
	return figures, err
}

func stored(tenant string, m usage.Month, closeID string) map[string]any {
	return map[string]any{"tenant": tenant, "month": m.String(), "close_id": closeID}
}

// Figures are the numbers of a month that are no sums of a meter, at a cut.
func (r *Reports) Figures(ctx context.Context, tenant string, m usage.Month, cut Cut) ([]Figure, error) {
	users, err := r.staFigures(ctx, tenant, m, cut)
	if err != nil {
		return nil, err
	}
	costs, err := r.costFigures(ctx, tenant, m, cut)
	if err != nil {
		return nil, err
	}
	return slices.Concat(users, costs), nil
}

// Told are quantities that other figures of the same month tell already.
type Told map[told]bool

type told struct{ account, meter string }

// Add notes what the figures tell: the quantity of a meter that has its cost beside it, and activity where
// users with activity are counted.
func (t Told) Add(others []Figure) {
	for _, f := range others {
		if f.Meter != "" {
			t[told{f.Account, f.Meter}] = true
		} else {
			t[told{f.Account, usage.MeterActivity}] = true
		}
	}
}

// AllFigures are the figures of a version: the others, and the accounts' own quantities of every meter but
// those that are told already.
func AllFigures(rows []MonthRow, others []Figure, already Told) []Figure {
	all := slices.Clone(others)
	for i := range rows {
		o := &rows[i]
		if o.FirstAt == 0 && o.Events == 0 && o.Quantity == "0" || already[told{o.Account, o.Meter}] {
			continue // only accounts below have usage, or it is there
		}
		all = append(all, Figure{
			Account: o.Account, Plan: o.Plan, Meter: o.Meter, Region: o.Region, Platform: o.Platform, Trial: o.Trial,
			Measure: MeasureQuantity, Value: o.Quantity,
		})
	}
	return all
}

// Number is an exact decimal of any scale, as figures have them: n / 10^scale.
type Number struct {
	n     *big.Int
	scale int
}

// ParseNumber reads a decimal; "" is 0.
func ParseNumber(s string) (Number, error) {
	scale := 0
	digits := s
	if i := slices.Index([]byte(s), '.'); i >= 0 {
		scale, digits = len(s)-i-1, s[:i]+s[i+1:]
	}
	if digits == "" {
		return Number{n: new(big.Int)}, nil
	}
	n, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		return Number{}, errors.New("decimal " + strconv.Quote(s) + " cannot be read")
	}
	return Number{n, scale}, nil
}

// Minus is the difference, with as many digits as the longer of the two has.
func (a Number) Minus(b Number) Number {
	scale := max(a.scale, b.scale)
	return Number{new(big.Int).Sub(a.at(scale), b.at(scale)), scale}
}

func (a Number) at(scale int) *big.Int {
	ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale-a.scale)), nil)
	return ten.Mul(ten, a.n)
}

// Zero reports whether it is nothing.
func (a Number) Zero() bool { return a.n.Sign() == 0 }

// Text is the decimal with at least so many fractional digits, and no more than it needs beyond them.
func (a Number) Text(least int) string {
	n, scale := new(big.Int).Set(a.n), a.scale
	if scale < least {
		n, scale = a.at(least), least
	}
	ten, rest := big.NewInt(10), new(big.Int)
	for scale > least {
		q := new(big.Int)
		if q.QuoRem(n, ten, rest); rest.Sign() != 0 {
			break
		}
		n, scale = q, scale-1
	}
	digits := new(big.Int).Abs(n).String()
	for len(digits) <= scale {
		digits = "0" + digits
	}
	text := digits[:len(digits)-scale]
	if scale > 0 {
		text += "." + digits[len(digits)-scale:]
	}
	if n.Sign() < 0 {
		return "-" + text
	}
	return text
}
