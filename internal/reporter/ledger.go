package reporter

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/report"
)

type tableInput struct {
	Format string `query:"format" doc:"json or csv; default: the header Accept"`
}

type ledgerOutput struct{ Body ledgerAnswer }

type ledgerAnswer struct {
	Tenant    string             `json:"tenant"`
	Rows      []report.LedgerRow `json:"rows" doc:"By the month in which the log had the events"`
	Watermark report.Watermark   `json:"watermark"`
}

func (a ledgerAnswer) columns() []string {
	return []string{"month", "chunks", "accepted", "stored", "duplicate", "conflict", "quarantined", "voided", "balanced"}
}

func (a ledgerAnswer) cells(row func(...cell)) {
	for _, l := range a.Rows {
		row(plain(l.Month), whole(l.Chunks), whole(l.Accepted), whole(l.Stored), whole(l.Duplicate), whole(l.Conflict),
			whole(l.Quarantined), whole(l.Voided), boolean(l.Balanced))
	}
}

// ContentType names the character set of CSV.
func (a ledgerAnswer) ContentType(ct string) string { return tableType(ct) }

type freshnessOutput struct{ Body freshnessAnswer }

type freshnessAnswer struct {
	Rows      []report.Freshness `json:"rows"`
	Watermark report.Watermark   `json:"watermark"`
}

func (a freshnessAnswer) columns() []string {
	return []string{"shard", "log_seq", "warehouse_seq", "lag_events", "oldest_pending_at", "watermark_at", "seen_at"}
}

func (a freshnessAnswer) cells(row func(...cell)) {
	for _, f := range a.Rows {
		row(whole(f.Shard), whole(f.LogSeq), whole(f.WarehouseSeq), whole(f.LagEvents), plain(f.OldestPendingAt.String()),
			plain(f.WatermarkAt.String()), plain(f.SeenAt.String()))
	}
}

// ContentType names the character set of CSV.
func (a freshnessAnswer) ContentType(ct string) string { return tableType(ct) }

type none struct{}

type auditInput struct {
	Tenant string `query:"tenant" doc:"Another tenant, or * for all; only for admin keys of tenant default"`
	Month  string `query:"month" doc:"Only this month, YYYY-MM"`
}

type auditOutput struct {
	Body json.RawMessage `doc:"The certificate; ok tells whether no difference was found"`
}

func (s *server) registerLedger() {
	register(s, endpoint{
		Operation: huma.Operation{
			OperationID: "ledger", Method: http.MethodGet, Path: "/ledger", Tags: []string{"proof"}, Summary: "What became of everything accepted, by month",
			Description: "accepted = stored + duplicate + conflict + quarantined, for ever.",
		},
		rows: true,
	}, s.ledger)
	register(s, endpoint{
		Operation: huma.Operation{OperationID: "freshness", Method: http.MethodGet, Path: "/freshness", Tags: []string{"proof"}, Summary: "How far counting is behind the log"},
		rows:      true,
	}, s.freshness)
	register(s, endpoint{
		Operation: huma.Operation{
			OperationID: "audit", Method: http.MethodGet, Path: "/audit", Tags: []string{"proof"}, Summary: "The completeness certificate",
			Description: "Recomputes the tenant's ledger, raw rows and rollups from the log and compares. May take long.",
		},
		whole: true,
	}, s.certificate)
}

func (s *server) ledger(ctx context.Context, who caller, _ *tableInput) (*ledgerOutput, error) {
	w, err := s.reports.Watermark(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.reports.Ledger(ctx, who.Tenant)
	return &ledgerOutput{ledgerAnswer{Tenant: who.Tenant, Rows: rows, Watermark: w}}, err
}

func (s *server) freshness(ctx context.Context, _ caller, _ *tableInput) (*freshnessOutput, error) {
	w, err := s.reports.Watermark(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.reports.Freshness(ctx)
	return &freshnessOutput{freshnessAnswer{Rows: rows, Watermark: w}}, err
}

func (s *server) certificate(ctx context.Context, who caller, in *auditInput) (*auditOutput, error) {
	tenant := in.Tenant
	switch {
	case tenant == "":
		tenant = who.Tenant
	case tenant != who.Tenant && !who.manages(tenant):
		return nil, refuse(codeScope, "only admin keys of tenant "+tenantOfTenants+" audit another tenant")
	case tenant == "*":
		tenant = ""
	}
	if in.Month != "" {
		if _, err := monthOf("month", in.Month); err != nil {
			return nil, err
		}
	}
	if tenant != "" && tenant != who.Tenant {
		if err := s.knownTenant(ctx, tenant); err != nil {
			return nil, err
		}
	}
	select {
	case s.auditing <- struct{}{}:
		defer func() { <-s.auditing }()
	default:
		return nil, refuse(codeOverloaded, "an audit is running already; retry when it is done")
	}
	certificate, err := s.audit.Certificate(ctx, tenant, in.Month)
	if err != nil {
		s.log.Warn("audit not finished", zap.Error(err), zap.String("correlation_id", correlationOf(ctx)))
		return nil, refuse(codeAudit, "the audit could not be finished, because log or warehouse did not answer; retry")
	}
	return &auditOutput{certificate}, nil
}

// knownTenant refuses the name of a tenant that never had a key or an event: of nobody everything is complete.
func (s *server) knownTenant(ctx context.Context, tenant string) error {
	names, err := s.keys.Tenants(ctx)
	if err != nil || slices.Contains(names, tenant) {
		return err
	}
	rows, err := s.reports.Ledger(ctx, tenant) // who publishes on NATS needs no key of ours
	if err == nil && len(rows) == 0 {
		err = refuse(codeNotFound, "no tenant "+strconv.Quote(tenant)+": it has no key and no event").With(problem.Item{Parameter: "tenant", Code: codeNotFound, Detail: "want a tenant that has a key or an event, or * for all"})
	}
	return err
}

// proof is an auditor whose certificate has the closed versions hashed as well: the API and the page of data health answer
// alike.
type proof struct {
	Auditor
	months *months.Keeper
}

// Certificate is that of the log, and of what was closed.
func (p proof) Certificate(ctx context.Context, tenant, month string) (json.RawMessage, error) {
	certificate, err := p.Auditor.Certificate(ctx, tenant, month)
	if err != nil {
		return nil, err
	}
	return p.months.Certified(ctx, certificate, tenant, month)
}
