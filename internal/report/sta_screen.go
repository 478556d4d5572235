package report

import (
	"context"
	"strconv"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// kindSubscriber is an account that sees its own rows only.
const kindSubscriber = "subscriber"

// staScreen is the account and its direct children at the month's end, a row per plan.
func (r *Reports) staScreen(ctx context.Context, q *staAsk, measure string, ownOnly bool) (*Answer, error) {
	which := staMeasure(measure)
	a := &Answer{FileName: q.staFileName()}
	a.Columns = []sheet.Column{
		{Name: "Account Name", Kind: sheet.Text, Doc: "as it was at the month's end"},
		{Name: "Plan", Kind: sheet.Code, Doc: "at the month's end"},
		{Name: "Status", Kind: sheet.Code, Doc: "Active or Disabled, as set at the month's end"},
		{Name: staHeadings[which], Kind: sheet.Whole, Doc: "of the account and all below it that have the plan"},
	}
	a.Rows = sheet.Of(nil)
	m := q.months[0]
	at := m.End().Millis() - 1
	self, ok := q.state.Account(q.account, at)
	if !ok || self.Deleted {
		return a, nil
	}
	b, err := r.staRead(ctx, q, staNeed{staNumbers: staNumbers{population: measure != MeasureActivity, activity: measure == MeasureActivity}})
	if err != nil {
		return nil, err
	}
	month, root := &b.months[0], b.index[q.account]
	shown := []int32{root}
	if !ownOnly && self.Kind != kindSubscriber {
		shown = append(shown, month.children(b, q.state, root, at)...)
	}
	var rows []sheet.Row
	incomplete, ids := map[string]bool{}, map[string]string{} // by name: it is unique in a tree
	for _, x := range shown {
		account, _ := q.state.Account(b.ids[x], at)
		ids[account.Name] = b.ids[x]
		incomplete[account.Name] = incomplete[account.Name] || !month.complete[x]
		for plan, name := range directory.STAPlans() {
			if month.plans[x]&(1<<plan) == 0 {
				continue
			}
			number := ""
			if !month.missing[x] {
				number = strconv.FormatUint(uint64(month.tree[x][plan][which]), 10)
			}
			rows = append(rows, sheet.Row{account.Name, name, staStatus(q.state, b.ids[x], at), number})
		}
	}
	a.Rows = sheet.Of(rows)
	a.Extra = func(row sheet.Row) map[string]any {
		return map[string]any{"tree_complete": !incomplete[row[0]], "account_id": ids[row[0]]}
	}
	return a, nil
}

// staDocument is the JSON answer of sta-monthly-summary.
type staDocument struct {
	AccountID string            `json:"accountId"`
	Months    []staDocumentPart `json:"months"`
}

type staDocumentPart struct {
	Month    string               `json:"month"`
	Accounts []staDocumentAccount `json:"accounts"`
}

type staDocumentAccount struct {
	AccountID       string            `json:"accountId"`
	AccountName     string            `json:"accountName"`
	ParentAccountID string            `json:"parentAccountId"`
	Status          string            `json:"status"`
	DataStatus      string            `json:"dataStatus"`
	Plans           []staDocumentPlan `json:"plans"`
}

type staDocumentPlan struct {
	Plan           string  `json:"plan"`
	UsersWithToken *uint32 `json:"usersWithToken"` // null where usage is missing
}

func staSummaryColumns() []sheet.Column {
	return []sheet.Column{
		{Name: "Month", Kind: sheet.Month},
		{Name: "Account ID", Kind: sheet.Text},
		{Name: "Account Name", Kind: sheet.Text},
		{Name: "Parent Account ID", Kind: sheet.Text},
		{Name: "Status", Kind: sheet.Code},
		{Name: "Data Status", Kind: sheet.Code},
		{Name: "Plan", Kind: sheet.Code, Doc: "blank in the one row of an account without any"},
		{Name: "Users with Token", Kind: sheet.Whole},
	}
}

// staSummary is users with an active token of the account and its direct children.
func staSummary(ctx context.Context, r *Reports, ask Ask) (*Answer, error) {
	q, err := staQuestion(ctx, r, ask)
	if err != nil {
		return nil, err
	}
	doc := staDocument{AccountID: q.account, Months: make([]staDocumentPart, len(q.months))}
	for i, m := range q.months {
		doc.Months[i] = staDocumentPart{Month: m.String(), Accounts: []staDocumentAccount{}}
	}
	if _, ok := q.state.Account(q.account, q.months[len(q.months)-1].End().Millis()-1); ok {
		b, err := r.staRead(ctx, q, staNeed{staNumbers{population: true}, "children"})
		if err != nil {
			return nil, err
		}
		for _, p := range b.places {
			part := &doc.Months[p.month]
			part.Accounts = append(part.Accounts, b.summary(b.record(q, int(p.x), int(p.month))))
		}
	} else {
		for i, row := range q.unborn() {
			doc.Months[i].Accounts = []staDocumentAccount{{
				AccountID: row[1], AccountName: row[0], ParentAccountID: row[3], DataStatus: row[6], Plans: []staDocumentPlan{},
			}}
		}
	}
	a := &Answer{FileName: "monthly-usage-summary_" + q.account + "_" + q.months[0].String() + "_" + q.months[len(q.months)-1].String(), Document: doc}
	a.Columns, a.Rows = staSummaryColumns(), sheet.Of(doc.rows())
	return a, nil
}

func (b *staBook) summary(r staRecord) staDocumentAccount {
	m := &b.months[r.month]
	account := staDocumentAccount{
		AccountID: b.ids[r.x], AccountName: r.account.Name, ParentAccountID: r.parent.ID, Status: r.status, DataStatus: r.data, Plans: []staDocumentPlan{},
	}
	for plan, name := range directory.STAPlans() {
		if m.plans[r.x]&(1<<plan) == 0 {
			continue
		}
		p := staDocumentPlan{Plan: name}
		if r.data == dataAvailable {
			p.UsersWithToken = &m.tree[r.x][plan][staMeasure(MeasureToken)]
		}
		account.Plans = append(account.Plans, p)
	}
	return account
}

func (d *staDocument) rows() []sheet.Row {
	var rows []sheet.Row
	for _, part := range d.Months {
		for _, a := range part.Accounts {
			head := sheet.Row{part.Month, a.AccountID, a.AccountName, a.ParentAccountID, a.Status, a.DataStatus}
			if len(a.Plans) == 0 {
				rows = append(rows, append(head, "", ""))
			}
			for _, p := range a.Plans {
				number := ""
				if p.UsersWithToken != nil {
					number = strconv.FormatUint(uint64(*p.UsersWithToken), 10)
				}
				rows = append(rows, append(head[:len(head):len(head)], p.Plan, number))
			}
		}
	}
	return rows
}

// staFigures are the users of a month per account and STA plan, as on the screen of sta-usage for every
// account: registered, token and activity with all accounts below.
func (r *Reports) staFigures(ctx context.Context, tenant string, m usage.Month, cut Cut) ([]Figure, error) {
	state, err := r.directoryAt(ctx, tenant, cut)
	if err != nil {
		return nil, err
	}
	q := &staAsk{tenant: tenant, cut: cut, state: state, months: []usage.Month{m}}
	b, err := r.staReadAll(ctx, q)
	if err != nil {
		return nil, err
	}
	var figures []Figure
	month := &b.months[0]
	for x, id := range b.ids {
		if !month.exists[x] || month.missing[x] {
			continue
		}
		for plan, name := range directory.STAPlans() {
			if month.plans[x]&(1<<plan) == 0 {
				continue
			}
			for i, n := range month.tree[x][plan] {
				figures = append(figures, Figure{Account: id, Plan: name, Measure: staMeasures[i], Value: strconv.FormatUint(uint64(n), 10)})
			}
		}
	}
	return figures, nil
}
