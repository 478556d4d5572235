package months

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// Check is one line of the checklist of a close.
type Check struct {
	Check  string   `json:"check"`
	Status string   `json:"status" enum:"ok,warn,block" doc:"block: the month cannot be closed while it is so"`
	Detail string   `json:"detail"`
	Items  []string `json:"items,omitempty" doc:"Names, the first of them"`
}

// Statuses of a Check.
const (
	OK    = "ok"
	Warn  = "warn"
	Block = "block"
)

// Checks, in the order of the list.
const (
	CheckEnded      = "ended"
	CheckEarlier    = "earlier-months"
	CheckAudit      = "audit"
	CheckGaps       = "gaps"
	CheckLag        = "lag"
	CheckDead       = "dead-letters"
	CheckUnresolved = "unresolved-accounts"
	CheckSilent     = "silent-producers"
)

// itemsMax is how many names a line of the checklist has.
const itemsMax = 20

// Checklist is what blocks the close of a month now, and what its closer should know. Empty for a closed month.
func (k *Keeper) Checklist(ctx context.Context, tenant string, m usage.Month) ([]Check, error) {
	versions, err := k.Reports.Versions(ctx, tenant, m)
	if err != nil || len(versions) > 0 {
		return []Check{}, err
	}
	cut, err := k.Reports.CutNow(ctx)
	if err != nil {
		return nil, err
	}
	return k.checks(ctx, Request{Tenant: tenant, Month: m}, cut)
}

func (k *Keeper) checks(ctx context.Context, q Request, cut report.Cut) ([]Check, error) {
	all := []Check{k.ended(q)}
	for _, check := range []func(context.Context, Request, report.Cut) (Check, error){
		k.earlier, k.audited, k.gaps, k.lag, k.dead, k.unresolved, k.silent,
	} {
		c, err := check(ctx, q, cut)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func (k *Keeper) ended(q Request) Check {
	end := q.Month.End()
	if usage.AtTime(k.Now()).Before(end) {
		return Check{Check: CheckEnded, Status: Block, Detail: "the month ends at " + report.Instant(end.Millis()).String()}
	}
	return Check{Check: CheckEnded, Status: OK, Detail: "the month has ended"}
}

func (k *Keeper) earlier(ctx context.Context, q Request, _ report.Cut) (Check, error) {
	months, err := k.Reports.UnclosedBefore(ctx, q.Tenant, q.Month)
	if err != nil || len(months) == 0 {
		return Check{Check: CheckEarlier, Status: OK, Detail: "every earlier month with usage is closed"}, err
	}
	return Check{Check: CheckEarlier, Status: Block, Detail: "not closed yet: " + names(months), Items: some(months)}, nil
}

func (k *Keeper) audited(ctx context.Context, q Request, _ report.Cut) (Check, error) {
	found, err := k.audits.of(ctx, k, q)
	if err != nil {
		return Check{}, err
	}
	if len(found) == 0 {
		return Check{Check: CheckAudit, Status: OK, Detail: "ledger, raw rows and rollups agree"}, nil
	}
	c := Check{Check: CheckAudit, Status: Block, Items: some(found)}
	c.Detail = "the tables do not agree: " + names(found) + "; countinghouse audit --month " + q.Month.String() + " names the places"
	return c, nil
}

func (k *Keeper) gaps(ctx context.Context, q Request, cut report.Cut) (Check, error) {
	gaps, err := k.Reports.OpenGaps(ctx, q.Tenant, q.Month, cut)
	switch {
	case err != nil || len(gaps) == 0:
		return Check{Check: CheckGaps, Status: OK, Detail: "no declared gap is open"}, err
	case q.AcceptGaps:
		return Check{Check: CheckGaps, Status: Warn, Detail: "open, and accepted: " + q.Reason, Items: some(gaps)}, nil
	}
	return Check{Check: CheckGaps, Status: Block, Detail: "usage is declared to be missing: " + names(gaps) + "; send ingest.gap_closed, or accept it with a reason", Items: some(gaps)}, nil
}

func (k *Keeper) lag(ctx context.Context, q Request, cut report.Cut) (Check, error) {
	lag, err := k.Reports.Lag(ctx)
	switch {
	case err != nil:
		return Check{}, err
	case cut.AsOf < q.Month.End().Millis():
		return Check{Check: CheckLag, Status: Block, Detail: "counted so far: what was recorded up to " + report.Instant(cut.AsOf).String()}, nil
	case lag > 0:
		return Check{Check: CheckLag, Status: Warn, Detail: strconv.FormatUint(lag, 10) + " events of the log are not counted yet; a close waits for what the log holds when it is asked for, up to " + k.cfg.SettleWait.String()}, nil
	}
	return Check{Check: CheckLag, Status: OK, Detail: "everything in the log is counted"}, nil
}

func (k *Keeper) dead(ctx context.Context, q Request, cut report.Cut) (Check, error) {
	counts, err := k.Reports.DeadLettersIn(ctx, q.Tenant, q.Month, cut)
	if err != nil || len(counts) == 0 {
		return Check{Check: CheckDead, Status: OK, Detail: "no event of the month was refused"}, err
	}
	var list []string
	var n uint64
	for _, c := range counts {
		list = append(list, c.What+" "+strconv.FormatUint(c.N, 10))
		n += c.N
	}
	return Check{Check: CheckDead, Status: Warn, Detail: strconv.FormatUint(n, 10) + " events recorded in the month or about it count nowhere: " + names(list), Items: some(list)}, nil
}

func (k *Keeper) unresolved(ctx context.Context, q Request, cut report.Cut) (Check, error) {
	accounts, err := k.Reports.Unresolved(ctx, q.Tenant, q.Month, cut)
	if err != nil || len(accounts) == 0 {
		return Check{Check: CheckUnresolved, Status: OK, Detail: "every account with usage is known"}, err
	}
	for i := range accounts {
		if accounts[i] == "" {
			accounts[i] = "(no account)"
		}
	}
	return Check{Check: CheckUnresolved, Status: Warn, Detail: "usage of accounts that were not created by the month's end: " + names(accounts), Items: some(accounts)}, nil
}

func (k *Keeper) silent(ctx context.Context, q Request, _ report.Cut) (Check, error) {
	sources, err := k.Reports.SilentSources(ctx, q.Tenant, q.Month, k.Now().UnixMilli())
	if err != nil || len(sources) == 0 {
		return Check{Check: CheckSilent, Status: OK, Detail: "no source that sent every day of the month before has stopped"}, err
	}
	var list []string
	for _, s := range sources {
		list = append(list, s.Source+" (last event "+s.Last.String()+")")
	}
	return Check{Check: CheckSilent, Status: Warn, Detail: "sent every day of the month before, and stopped: " + names(list), Items: some(list)}, nil
}

// namesMax is how many names a sentence has.
const namesMax = 5

func names(all []string) string {
	if len(all) <= namesMax {
		return strings.Join(all, ", ")
	}
	return strings.Join(all[:namesMax], ", ") + fmt.Sprintf(" and %d more", len(all)-namesMax)
}

func some(all []string) []string { return all[:min(len(all), itemsMax)] }

// audits remembers for a moment what the audit of a month found: it reads the month's rows, and people look at
// a checklist again and again. A close never asks its memory.
type audits struct {
	mu   *sync.Mutex
	last map[string]audited
}

type audited struct {
	at    time.Time
	found []string
}

const (
	auditsMax = 1000 // results remembered
	auditAge  = 10 * time.Second
)

func newAudits() audits { return audits{&sync.Mutex{}, map[string]audited{}} }

func (a *audits) of(ctx context.Context, k *Keeper, q Request) ([]string, error) {
	key := q.Tenant + " " + q.Month.String()
	a.mu.Lock()
	last, ok := a.last[key]
	a.mu.Unlock()
	if ok && q.By == "" && time.Since(last.at) < auditAge {
		return last.found, nil
	}
	differences, err := k.Audit.Month(ctx, q.Tenant, q.Month)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAudit, err)
	}
	found := []string{}
	for _, d := range differences {
		found = append(found, fmt.Sprintf("%s (%d)", d.What, d.N))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.last) >= auditsMax {
		clear(a.last)
	}
	a.last[key] = audited{time.Now(), found}
	return found, nil
}

// ErrAudit says that the audit could not be finished, which says nothing about the data.
var ErrAudit = errors.New("the audit of the month could not be finished")
