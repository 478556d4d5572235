package access

import (
	"errors"
	"maps"
	"slices"
)

// Refusals of an operator.
var (
	// ErrOutside: not within reach, or not there at all (404): which of the two is not told.
	ErrOutside = errors.New("not within reach")
	// ErrForbidden: within reach, but without the right (403).
	ErrForbidden = errors.New("the role does not allow this")
	// ErrProof: allowed to those who proved who they are a moment ago (403).
	ErrProof = errors.New("prove who you are again")
)

// Scopes of API keys. None implies another.
const (
	ScopeUsage        = "usage:read"
	ScopeReports      = "reports:read"
	ScopeReportsWrite = "reports:write"
	ScopeClose        = "months:close"
	ScopeDLQ          = "dlq:read"
	ScopeDLQWrite     = "dlq:write"
	ScopeAdmin        = "admin"
)

// Need is what an operation of the API asks of its caller.
type Need struct {
	Scopes []string // of a key: any of them
	Rights []Right  // of an operator: all of them
	Export []Right  // and these for a file
	Proof  bool     // of an operator: proved who it is within ProofMax
	// Root names the query parameter with the account that the answer is at or below. Without it, or without the
	// parameter, only a right for the whole tenant will do.
	Root string
	// Own: the operation itself keeps to what the operator may see (package guard), so rights for some accounts will do.
	Own bool
}

// anybody is the entry of what every key and every operator may do.
func anybody() Need { return Need{Scopes: []string{}, Rights: []Right{}} }

func need(e Entity, v Verb, scopes ...string) Need {
	return Need{Scopes: scopes, Rights: []Right{{e, v}}}
}

func (n Need) below(root string) Need { n.Root = root; return n }

func (n Need) own() Need { n.Own = true; return n }

func (n Need) proven() Need { n.Proof = true; return n }

// Operations is the table of rights of the API, by operation id: what is not in it is refused to everybody. The
// pages have theirs in package web.
func Operations() map[string]Need {
	all := map[string]Need{
		"meter-usage":       need(Usage, View, ScopeUsage).below("account"),
		"events":            need(Usage, View, ScopeUsage).below("account"),
		"event":             need(Usage, View, ScopeUsage),
		"dead-letters":      need(DeadLetters, View, ScopeDLQ),
		"dead-letter":       need(DeadLetters, View, ScopeDLQ),
		"months":            need(Months, View, ScopeReports, ScopeUsage),
		"month":             need(Months, View, ScopeReports, ScopeUsage),
		"month-usage":       need(Reports, View, ScopeReports, ScopeUsage).below("account"),
		"month-adjustments": need(Months, View, ScopeReports, ScopeUsage),
		"month-diff":        need(Months, View, ScopeReports, ScopeUsage),
		"close-month":       need(Months, Add, ScopeClose).proven(),
		"ledger":            need(DataHealth, View, ScopeUsage, ScopeReports),
		"freshness":         anybody(),
		"audit":             need(DataHealth, View, ScopeReports, ScopeAdmin),
		"reports":           {Scopes: []string{ScopeReports}, Rights: []Right{}},
		"explain":           {Scopes: []string{ScopeReports}, Rights: []Right{}}, // that of the report, judged where it is explained

		"keys":       need(Keys, View, ScopeAdmin),
		"create-key": need(Keys, Add, ScopeAdmin).proven(),
		"revoke-key": need(Keys, Remove, ScopeAdmin).proven(),

		"roles":       need(Roles, View, ScopeAdmin),
		"role":        need(Roles, View, ScopeAdmin),
		"create-role": need(Roles, Add, ScopeAdmin).proven(),
		"edit-role":   need(Roles, Edit, ScopeAdmin).proven(),
		"remove-role": need(Roles, Remove, ScopeAdmin).proven(),

		"operators":        need(Operators, View, ScopeAdmin),
		"operator":         need(Operators, View, ScopeAdmin),
		"create-operator":  need(Operators, Add, ScopeAdmin).proven(),
		"edit-operator":    need(Operators, Edit, ScopeAdmin).proven(),
		"disable-operator": need(Operators, Remove, ScopeAdmin).proven(),
		"enable-operator":  need(Operators, Edit, ScopeAdmin).proven(),
		"set-password":     need(Operators, Edit, ScopeAdmin).proven(),
		"grants":           need(Operators, View, ScopeAdmin),
		"create-grant":     need(Operators, Edit, ScopeAdmin).proven(),
		"remove-grant":     need(Operators, Edit, ScopeAdmin).proven(),

		"audit-log": need(AuditLog, View, ScopeAdmin),

		"report-jobs":           need(Archive, View, ScopeReports, ScopeReportsWrite).own(),
		"report-job":            need(Archive, View, ScopeReports, ScopeReportsWrite).own(),
		"report-job-file":       need(Archive, View, ScopeReports, ScopeReportsWrite).own(),
		"report-job-manifest":   need(Archive, View, ScopeReports, ScopeReportsWrite).own(),
		"create-report-job":     need(Archive, Add, ScopeReportsWrite).own(), // and those of the report, judged by its guard
		"cancel-report-job":     need(Archive, Remove, ScopeReportsWrite).own(),
		"regenerate-report-job": need(Archive, Add, ScopeReportsWrite).own(),

		"schedules":        need(Schedules, View, ScopeReports, ScopeReportsWrite).own(),
		"schedule":         need(Schedules, View, ScopeReports, ScopeReportsWrite).own(),
		"create-schedule":  need(Schedules, Add, ScopeReportsWrite).own(),
		"edit-schedule":    need(Schedules, Edit, ScopeReportsWrite).own(),
		"enable-schedule":  need(Schedules, Edit, ScopeReportsWrite).own(),
		"disable-schedule": need(Schedules, Edit, ScopeReportsWrite).own(),
		"remove-schedule":  need(Schedules, Remove, ScopeReportsWrite).own(),
	}
	for name, n := range ReportNeeds() {
		all[name], all[name+"-columns"] = n, n
	}
	return all
}

// ReportNeeds is what each report asks: Rights to see it, Export to have it as a file, to generate
// and to schedule it.
func ReportNeeds() map[string]Need {
	of := func(e Entity, root string, export ...Right) Need {
		return Need{Scopes: []string{ScopeReports}, Rights: []Right{{e, View}}, Export: append([]Right{{e, Add}}, export...), Root: root}
	}
	return map[string]Need{
		"sta-usage":           of(UsageReport, "account"),
		"sta-monthly-summary": of(UsageReport, "account"),
		"tenant-usage":        of(ExportReports, "account", Right{Schedules, Add}),
		"tenant-usage-api":    of(ExportReports, "tenant", Right{Schedules, Add}),
		"asset-usage-detail":  of(SecureConnect, "tenant"),
		"asset-monthly-costs": of(SecureConnect, "organization"),
		"asset-adjustments":   of(SecureConnect, "organization"),
		"elastic-usage":       of(Elastic, "account"),
		"subscriptions":       of(PartnerReports, "partner"),
		"transactions":        of(PartnerReports, "partner"),
		"certificate-usage":   of(PartnerReports, "partner"),
		"monthly-usage":       of(Reports, "account"),
	}
}

// GuardNeeds is ReportNeeds with what else is asked of reports.
func GuardNeeds() map[string]Need {
	all := ReportNeeds()
	maps.Copy(all, map[string]Need{
		"month-usage":       {Rights: []Right{{Reports, View}}, Export: []Right{{Reports, View}}, Root: "account"},
		"month-adjustments": {Rights: []Right{{Months, View}}, Export: []Right{{Months, View}}, Root: "account"},
		"meter-usage":       {Rights: []Right{{Usage, View}}, Export: []Right{{Usage, View}}, Root: "account"},
		"events":            {Rights: []Right{{Usage, View}}, Export: []Right{{Usage, View}}, Root: "account"},
	})
	return all
}

// All is what the need asks of an operator.
func (n Need) All(export bool) []Right {
	if export {
		return slices.Concat(n.Rights, n.Export)
	}
	return n.Rights
}

// Actor is how the viewer is named in what they change.
func (v *Viewer) Actor() string { return "operator:" + v.Login }

// Judge says whether the viewer has all the rights for the accounts; none: for the whole tenant. path finds an account
// and those above it; false: there is no such account.
func (v *Viewer) Judge(rights []Right, accounts []string, path func(account string) ([]string, bool, error)) error {
	if !v.MayAll(rights) {
		return ErrForbidden
	}
	if v.ReachAll(rights) {
		return nil
	}
	if len(accounts) == 0 {
		return ErrForbidden
	}
	for _, account := range accounts {
		above, known, err := path(account)
		switch {
		case err != nil:
			return err
		case !known || !v.Reaches(above...):
			return ErrOutside
		case slices.ContainsFunc(rights, func(r Right) bool { return !v.Allows(r.Entity, r.Verb, above...) }):
			return ErrForbidden
		}
	}
	return nil
}

// ScopeRights are the rights an operator needs for the whole tenant to give a key a scope; false: only who manages all
// roles may. A key is not bound to accounts, and reports:read reads every report.
func ScopeRights(scope string) ([]Right, bool) {
	switch scope {
	case ScopeUsage:
		return []Right{{Usage, View}}, true
	case ScopeClose:
		return []Right{{Months, Add}}, true
	case ScopeDLQ:
		return []Right{{DeadLetters, View}}, true
	case ScopeDLQWrite:
		return []Right{{DeadLetters, Edit}}, true
	case "events:write":
		return []Right{{Keys, Add}}, true
	}
	return nil, false
}
