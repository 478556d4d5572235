package web

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/report"
)

func operatorPages() []page {
	of := func(pattern, title, menu string, verb access.Verb, serve func(*Site, *visit) (templ.Component, error)) page {
		return page{pattern: pattern, title: title, entity: access.Operators, verb: verb, menu: menu, proof: verb != access.View, serve: serve}
	}
	return []page{
		of("GET /operators", "Operators", menuAdmin, access.View, (*Site).operators),
		of("GET /operators/new", "Create an operator", "", access.Add, (*Site).operatorNew),
		of("POST /operators/new", "Create an operator", "", access.Add, (*Site).operatorCreate),
		of("GET /operators/{id}", "Operator", "", access.View, (*Site).operator),
		of("POST /operators/{id}/edit", "Operator", "", access.Edit, (*Site).operatorSave),
		of("POST /operators/{id}/password", "Operator", "", access.Edit, (*Site).operatorPassword),
		of("POST /operators/{id}/grant", "Operator", "", access.Edit, (*Site).operatorGrant),
		of("GET /operators/{id}/revoke", "Take a role away", "", access.Edit, (*Site).operatorAskRevoke),
		of("POST /operators/{id}/revoke", "Take a role away", "", access.Edit, (*Site).operatorRevoke),
		of("GET /operators/{id}/disable", "Disable the operator", "", access.Remove, (*Site).operatorAskDisable),
		of("POST /operators/{id}/disable", "Disable the operator", "", access.Remove, (*Site).operatorDisable),
		of("GET /operators/{id}/enable", "Enable the operator", "", access.Edit, (*Site).operatorAskEnable),
		of("POST /operators/{id}/enable", "Enable the operator", "", access.Edit, (*Site).operatorEnable),
	}
}

func operatorFields() []string {
	return []string{"login", "name", "email", "subject", "password", "account", "tenant"}
}

func grantTitle(g access.Grant) string {
	if g.Account == "" {
		return g.Role
	}
	return g.Role + " for " + g.Account
}

func operatorState(o *control.Operator) templ.Component {
	if o.DisabledAt.IsZero() {
		return badge("good", "enabled")
	}
	return badge("", "disabled")
}

func (s *Site) operators(v *visit) (templ.Component, error) {
	all, err := s.People.Operators(v.Context(), v.viewer.Tenant)
	if err != nil {
		return nil, err
	}
	v.lead = "Who may sign in, and with which roles."
	if v.viewer.May(access.Operators, access.Add) {
		v.actions = []action{{title: "Create an operator", href: "/operators/new", main: true}}
	}
	f := newForm(v.URL.Query())
	t := table{
		name: "Operators",
		columns: []column{
			{title: "Login", kind: asHead}, {title: "Name"}, {title: "Email"}, {title: "Roles"}, {title: "Signs in with", kind: asShort}, {title: "Since", kind: asShort}, {title: "State", kind: asShort}, {title: "Actions"},
		},
		empty: empty{text: "No operator fits the filter.", do: "Show all", href: "/operators"},
	}
	search := strings.ToLower(f.text("search"))
	for i := range all {
		o := &all[i]
		roles := texts(slices.Values(o.Grants), grantTitle)
		if !strings.Contains(strings.ToLower(strings.Join(append(roles, o.Login, o.Name, o.Email), " ")), search) {
			continue
		}
		t.rows = append(t.rows, row{
			linked(o.Login, "/operators/"+o.ID), txt(o.Name), txt(o.Email), txt(strings.Join(roles, ", ")), txt(signsIn(o)), txt(minute(o.CreatedAt)), comp(operatorState(o)), turned(v, o),
		})
	}
	return joined(searchForm(f, "/operators", "Login, name, email or role contains"), v.paged(t)), nil
}

// manages reports whether the viewer may change the operator: that takes every role the operator has.
func manages(v *visit, o *control.Operator) bool {
	return !slices.ContainsFunc(o.Grants, func(g access.Grant) bool { return !v.viewer.Manages(g.Role) })
}

// turned leads to disabling an operator, or to enabling one again.
func turned(v *visit, o *control.Operator) cell {
	switch {
	case !manages(v, o):
	case o.DisabledAt.IsZero() && v.viewer.May(access.Operators, access.Remove):
		return linked("Disable", "/operators/"+o.ID+"/disable")
	case !o.DisabledAt.IsZero() && v.viewer.May(access.Operators, access.Edit):
		return linked("Enable", "/operators/"+o.ID+"/enable")
	}
	return txt("")
}

func signsIn(o *control.Operator) string {
	var ways []string
	if o.HasPassword {
		ways = append(ways, "password")
	}
	if o.Subject != "" || !o.HasPassword {
		ways = append(ways, "OIDC")
	}
	return strings.Join(ways, ", ")
}

// givable are the roles that the viewer may give.
func (s *Site) givable(v *visit) ([]option, error) {
	all, err := s.People.Roles(v.Context(), v.viewer.Tenant)
	if err != nil {
		return nil, err
	}
	roles := []option{{"", "No role yet"}}
	for _, r := range all {
		if v.viewer.Manages(r.Name) {
			roles = append(roles, option{r.Name, r.Name})
		}
	}
	return roles, nil
}

type operatorView struct {
	v        *visit
	f        *form
	o        control.Operator
	roles    []option
	account  field
	grants   table
	changes  bool
	password string // shown once
}

// grantFields are what a role is given with: the accounts there are.
func (s *Site) grantFields(v *visit, view *operatorView) error {
	var err error
	if view.roles, err = s.givable(v); err != nil {
		return err
	}
	accounts, err := s.Reports.Accounts(v.Context(), v.viewer.Tenant)
	if err != nil { // roles are given while the warehouse is away as well
		accounts = nil
	}
	if view.o.ID != "" {
		view.roles[0].title = "Choose a role"
	}
	view.account = accountField(view.f, "account", "For", "The whole tenant", accounts)
	view.account.hint = "The account and everything below it."
	return nil
}

func (s *Site) operatorNew(v *visit) (templ.Component, error) {
	return s.operatorForm(v, newForm(nil))
}

func (s *Site) operatorForm(v *visit, f *form) (templ.Component, error) {
	v.crumbs = []crumb{{"Operators", "/operators"}}
	view := operatorView{v: v, f: f}
	if err := s.grantFields(v, &view); err != nil {
		return nil, err
	}
	return operatorNewPage(view), nil
}

func (s *Site) operatorCreate(v *visit) (templ.Component, error) {
	f := v.form()
	spec := control.OperatorSpec{
		Tenant: v.viewer.Tenant, Login: f.text("login"), Name: f.text("name"), Email: f.text("email"), Subject: f.text("subject"), Password: f.values.Get("password"),
	}
	if f.text("role") != "" {
		spec.Grants = []access.Grant{{Role: f.text("role"), Account: f.text("account")}}
	}
	generated := ""
	if f.text("generate") != "" {
		generated = control.NewPassword()
		spec.Password = generated
	}
	if err := s.grantable(v, f); err != nil {
		return nil, err
	}
	if f.ok() {
		o, err := s.People.CreateOperator(v.Context(), v.actor(), spec)
		if err == nil {
			if generated != "" {
				return s.operatorShown(v, o, newForm(nil), generated)
			}
			v.flash("good", "The operator "+o.Login+" was created.")
			return nil, redirect{"/operators/" + o.ID}
		}
		if err := refusedControl(f, err, "login", operatorFields()...); err != nil {
			return nil, err
		}
	}
	f.values.Del("password") // is not sent back
	return s.operatorForm(v, f)
}

// grantable refuses a grant for an account that nobody knows.
func (s *Site) grantable(v *visit, f *form) error {
	account := f.text("account")
	if account == "" {
		return nil
	}
	accounts, err := s.Reports.Accounts(v.Context(), v.viewer.Tenant)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(accounts, func(a report.AccountInfo) bool { return a.ID == account }) {
		f.refuse("account", "There is no account "+account+".")
	}
	return nil
}

// theOperator is the one that the address names.
func (s *Site) theOperator(v *visit) (control.Operator, error) {
	o, err := s.People.Operator(v.Context(), v.viewer.Tenant, v.PathValue("id"))
	if errors.Is(err, control.ErrUnknownOperator) {
		err = ErrNotFound
	}
	v.crumbs = []crumb{{"Operators", "/operators"}}
	return o, err
}

func (s *Site) operator(v *visit) (templ.Component, error) {
	o, err := s.theOperator(v)
	if err != nil {
		return nil, err
	}
	return s.operatorShown(v, o, newForm(nil), "")
}

func (s *Site) operatorShown(v *visit, o control.Operator, f *form, password string) (templ.Component, error) {
	v.title, v.crumbs = o.Login, []crumb{{"Operators", "/operators"}}
	if f.ok() {
		f.values.Set("name", o.Name)
		f.values.Set("email", o.Email)
		f.values.Set("subject", o.Subject)
	}
	mine := manages(v, &o)
	view := operatorView{v: v, f: f, o: o, password: password, changes: mine && v.viewer.May(access.Operators, access.Edit)}
	if err := s.grantFields(v, &view); err != nil {
		return nil, err
	}
	view.grants = table{
		name: "Roles of " + o.Login, columns: []column{{title: "Role", kind: asHead}, {title: "For"}, {title: "Actions"}},
		empty: empty{text: o.Login + " has no role yet and sees nothing. Give one below."},
	}
	for _, g := range o.Grants {
		do := txt("")
		if view.changes {
			do = linked("Take away", href("/operators/"+o.ID+"/revoke", "role", g.Role, "account", g.Account))
		}
		view.grants.rows = append(view.grants.rows, row{txt(g.Role), txt(cmp.Or(g.Account, "the whole tenant")), do})
	}
	switch {
	case !mine:
	case !o.DisabledAt.IsZero() && view.changes:
		v.actions = []action{{title: "Enable", href: "/operators/" + o.ID + "/enable", main: true}}
	case o.DisabledAt.IsZero() && v.viewer.May(access.Operators, access.Remove):
		v.actions = []action{{title: "Disable", href: "/operators/" + o.ID + "/disable"}}
	}
	return operatorPage(view), nil
}

// changed answers a change of an operator: the page again with what was refused, or anew.
func (s *Site) changed(v *visit, f *form, o control.Operator, err error, field, told string) (templ.Component, error) {
	if err == nil {
		v.flash("good", told)
		return nil, redirect{"/operators/" + o.ID}
	}
	if err := refusedControl(f, err, field, operatorFields()...); err != nil {
		return nil, err
	}
	have, err := s.theOperator(v)
	if err != nil {
		return nil, err
	}
	return s.operatorShown(v, have, f, "")
}

func (s *Site) operatorSave(v *visit) (templ.Component, error) {
	f := v.form()
	name, email, subject := f.text("name"), f.text("email"), f.text("subject")
	o, err := s.People.EditOperator(v.Context(), v.actor(), v.viewer.Tenant, v.PathValue("id"), control.OperatorEdit{Name: &name, Email: &email, Subject: &subject})
	return s.changed(v, f, o, err, "name", "Saved.")
}

func (s *Site) operatorPassword(v *visit) (templ.Component, error) {
	password := control.NewPassword()
	f := newForm(nil)
	o, err := s.People.SetPassword(v.Context(), v.actor(), v.viewer.Tenant, v.PathValue("id"), password)
	if err != nil {
		return s.changed(v, f, o, err, "", "")
	}
	return s.operatorShown(v, o, f, password)
}

func (s *Site) operatorGrant(v *visit) (templ.Component, error) {
	f := v.form()
	if f.text("role") == "" {
		f.refuse("role", "Choose a role.")
	}
	if err := s.grantable(v, f); err != nil {
		return nil, err
	}
	if !f.ok() {
		o, err := s.theOperator(v)
		if err != nil {
			return nil, err
		}
		return s.operatorShown(v, o, f, "")
	}
	g := access.Grant{Role: f.text("role"), Account: f.text("account")}
	o, err := s.People.Grant(v.Context(), v.actor(), v.viewer.Tenant, v.PathValue("id"), g)
	return s.changed(v, f, o, err, "role", o.Login+" has the role "+grantTitle(g)+" from the next sign-in on.")
}

// askOperator is a question about the operator that the address names.
func (s *Site) askOperator(v *visit, about func(o control.Operator) confirmation) (templ.Component, error) {
	o, err := s.theOperator(v)
	if err != nil {
		return nil, err
	}
	v.crumbs = append(v.crumbs, crumb{o.Login, "/operators/" + o.ID})
	c := about(o)
	c.back = "/operators/" + o.ID
	return confirm(v, c), nil
}

func (s *Site) operatorAskRevoke(v *visit) (templ.Component, error) {
	return s.askOperator(v, func(o control.Operator) confirmation {
		g := access.Grant{Role: v.query("role"), Account: v.query("account")}
		return confirmation{
			action: "/operators/" + o.ID + "/revoke", ask: "Take " + grantTitle(g) + " from " + o.Login + "?", do: "Take away", danger: true,
			detail: "It is in force at the next sign-in. To end what " + o.Login + " is doing right now, disable the operator.",
			hidden: []option{{"role", g.Role}, {"account", g.Account}},
		}
	})
}

func (s *Site) operatorRevoke(v *visit) (templ.Component, error) {
	f := v.form()
	g := access.Grant{Role: f.text("role"), Account: f.text("account")}
	o, err := s.People.Revoke(v.Context(), v.actor(), v.viewer.Tenant, v.PathValue("id"), g)
	return s.changed(v, newForm(nil), o, err, "", o.Login+" no longer has the role "+grantTitle(g)+".")
}

func (s *Site) operatorAskDisable(v *visit) (templ.Component, error) {
	return s.askOperator(v, func(o control.Operator) confirmation {
		return confirmation{
			action: "/operators/" + o.ID + "/disable", ask: "Disable " + o.Login + "?", do: "Disable", danger: true,
			detail: "All sessions end at once and nobody can sign in as " + o.Login + " until the operator is enabled again. Roles stay as they are.",
		}
	})
}

func (s *Site) operatorDisable(v *visit) (templ.Component, error) {
	o, err := s.People.DisableOperator(v.Context(), v.actor(), v.viewer.Tenant, v.PathValue("id"))
	return s.changed(v, newForm(nil), o, err, "", o.Login+" was disabled.")
}

func (s *Site) operatorAskEnable(v *visit) (templ.Component, error) {
	return s.askOperator(v, func(o control.Operator) confirmation {
		return confirmation{action: "/operators/" + o.ID + "/enable", ask: "Enable " + o.Login + "?", do: "Enable", detail: o.Login + " can sign in again, with the roles shown on the page before."}
	})
}

func (s *Site) operatorEnable(v *visit) (templ.Component, error) {
	o, err := s.People.EnableOperator(v.Context(), v.actor(), v.viewer.Tenant, v.PathValue("id"))
	return s.changed(v, newForm(nil), o, err, "", o.Login+" was enabled.")
}
