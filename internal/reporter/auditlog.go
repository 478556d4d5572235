package reporter

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countinghouse/countinghouse/internal/control"
)

type auditLogInput struct {
	By     string `query:"by" doc:"Only what this operator or key did: operator:<login>, key:<id>"`
	Action string `query:"action" doc:"Only this, such as signed-in or month-closed"`
	Target string `query:"target" doc:"Only what was done to this"`
	Limit  string `query:"limit" doc:"Rows of a page, 1 to 1000; default 1000"`
	Cursor string `query:"cursor" doc:"next of the page before"`
	Format string `query:"format" doc:"json or csv; default: the header Accept"`
}

type auditLogOutput struct{ Body auditLogAnswer }

type auditLogAnswer struct {
	Rows []control.Entry `json:"rows" doc:"Newest first. Each holds the SHA-256 of the one before"`
	Next *string         `json:"next"`
}

func (a auditLogAnswer) columns() []string {
	return []string{"number", "at", "by", "from", "action", "target", "detail", "previous", "sha256"}
}

func (a auditLogAnswer) cells(row func(...cell)) {
	for _, e := range a.Rows {
		detail, _ := json.Marshal(e.Detail) // texts: cannot fail
		row(plain(strconv.FormatUint(e.Number, 10)), plain(e.At.Format("2006-01-02T15:04:05.000Z")), text(e.By), text(e.From), text(e.Action), text(e.Target),
			text(string(detail)), plain(e.Previous), plain(e.SHA256))
	}
}

// ContentType names the character set of CSV.
func (a auditLogAnswer) ContentType(ct string) string { return tableType(ct) }

func (s *server) registerAuditLog() {
	register(s, endpoint{Operation: huma.Operation{
		OperationID: "audit-log", Method: http.MethodGet, Path: "/audit-log", Tags: []string{tagRights}, Summary: "What operators and keys did",
		Description: "`countinghouse audit verify-log` proves that nothing was changed or taken out.",
	}, rows: true}, s.auditLog)
}

func (s *server) auditLog(ctx context.Context, who caller, in *auditLogInput) (*auditLogOutput, error) {
	q := control.AuditQuery{Tenant: who.Tenant, By: in.By, Action: in.Action, Target: in.Target}
	var err error
	if q.Limit, err = limitOf(in.Limit, limitDefault); err != nil {
		return nil, err
	}
	if in.Cursor != "" {
		if err := s.cursors.take(who.Tenant, "audit-log", in.Cursor, &q.Before); err != nil {
			return nil, err
		}
	}
	rows, err := s.keys.AuditLog(ctx, q)
	if err != nil {
		return nil, peopleProblem(err)
	}
	out := &auditLogOutput{auditLogAnswer{Rows: rows}}
	if len(rows) < q.Limit || rows[len(rows)-1].Number == 1 {
		return out, nil
	}
	next, err := s.cursors.give(who.Tenant, "audit-log", rows[len(rows)-1].Number)
	out.Body.Next = &next
	return out, err
}
