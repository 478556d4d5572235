package web

import (
	"errors"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
)

func rolePages() []page {
	of := func(pattern, title, menu string, verb access.Verb, serve func(*Site, *visit) (templ.Component, error)) page {
		return page{pattern: pattern, title: title, entity: access.Roles, verb: verb, menu: menu, proof: verb != access.View, serve: serve}
	}
	return []page{
		of("GET /roles", "Roles", menuAdmin, access.View, (*Site).roles),
		of("GET /roles/role", "Role", "", access.View, (*Site).role),
		of("GET /roles/new", "Create a role", "", access.Add, (*Site).roleNew),
		of("POST /roles/new", "Create a role", "", access.Add, (*Site).roleCreate),
		of("GET /roles/edit", "Edit the role", "", access.Edit, (*Site).roleEdit),
		of("POST /roles/edit", "Edit the role", "", access.Edit, (*Site).roleSave),
		of("GET /roles/remove", "Remove the role", "", access.Remove, (*Site).roleAsk),
		of("POST /roles/remove", "Remove the role", "", access.Remove, (*Site).roleRemove),
	}
}

// actor is who changes something, for the audit log and for what they may do.
func (v *visit) actor() control.Actor {
	return control.Actor{By: v.viewer.Actor(), From: v.from, Viewer: v.viewer}
}

// refusedControl notes at a form what the control state refused; else the error stays one. Texts of the control state
// begin with the field: "name: want ...". field stands for those that name none.
func refusedControl(f *form, err error, field string, fields ...string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, access.ErrOutside), errors.Is(err, control.ErrUnknownOperator), errors.Is(err, control.ErrUnknownRole), errors.Is(err, control.ErrUnknownKey):
		return ErrNotFound
	case errors.Is(err, control.ErrTaken):
		f.refuse(field, "There is one of that name already.")
		return nil
	case errors.Is(err, access.ErrForbidden):
		f.refuse("", sentence(strings.TrimSuffix(err.Error(), ": "+access.ErrForbidden.Error()))+" Your role does not allow it.")
		return nil
	case errors.Is(err, control.ErrConflict):
		f.refuse("", "Somebody else changed it at the same time. Look at it again and repeat.")
		return nil
	case !errors.Is(err, control.ErrInvalid) && !errors.Is(err, control.ErrInUse):
		return err
	}
	text := err.Error()
	for _, name := range fields {
		if _, rest, found := strings.Cut(text, name+": "); found {
			f.refuse(name, sentence(rest))
			return nil
		}
	}
	if _, rest, found := strings.Cut(text, control.ErrInvalid.Error()+": "); found {
		text = rest
	}
	f.refuse(field, sentence(text))
	return nil
}

// entityTitle is an entity as people know it.
func entityTitle(e access.Entity) string {
	titles := map[access.Entity]string{
		access.Usage: "Usage", access.Reports: "Monthly Usage and Explain", access.UsageReport: "Usage Report (STA)", access.ExportReports: "Export Reports",
		access.SecureConnect: "Secure Connect", access.Elastic: "Elastic Usage", access.PartnerReports: "Partner Reports", access.Archive: "Report Archive",
		access.Schedules: "Scheduled Task Management", access.Months: "Months", access.DeadLetters: "Dead Letters", access.DataHealth: "Data Health",
		access.Roles: "Roles", access.Operators: "Operators", access.Keys: "API Keys", access.AuditLog: "Audit Log",
	}
	if t := titles[e]; t != "" {
		return t
	}
	return string(e)
}

func verbTitle(v access.Verb) string { return titled(string(v)) }

func roleHref(path, name string) string { return href(path, "name", name) }

func (s *Site) roles(v *visit) (templ.Component, error) {
	all, err := s.People.Roles(v.Context(), v.viewer.Tenant)
	if err != nil {
		return nil, err
	}
	v.lead = "What operators may see and do. A change is in force at an operator's next sign-in."
	if v.viewer.May(access.Roles, access.Add) {
		v.actions = []action{{title: "Create a role", href: "/roles/new", main: true}}
	}
	t := table{
		name:    "Roles",
		columns: []column{{title: "Role", kind: asHead}, {title: "Description"}, {title: "Kind", kind: asShort}, {title: "Manages"}, {title: "Entities", kind: asNumber}, {title: "Actions"}},
	}
	for _, r := range all {
		kind, do := comp(badge("accent", "custom")), linked("Edit", roleHref("/roles/edit", r.Name))
		if r.System {
			kind, do = comp(badge("", "system")), txt("")
		} else if !v.viewer.May(access.Roles, access.Edit) || !v.viewer.Manages(r.Name) {
			do = txt("")
		}
		t.rows = append(t.rows, row{linked(r.Name, roleHref("/roles/role", r.Name)), txt(r.Description), kind, txt(managesText(r)), txt(whole(len(r.Rights))), do})
	}
	return v.paged(t), nil
}

func managesText(r access.Role) string {
	if r.ManageAll {
		return "all roles"
	}
	return strings.Join(r.Manages, ", ")
}

type roleView struct {
	v       *visit
	f       *form
	role    access.Role
	others  []access.Role // that can be managed
	action  string
	changes bool // the viewer may
	removes bool
}

// has reports whether a right is ticked.
func (view roleView) has(e access.Entity, verb access.Verb) bool {
	return view.role.Rights.Has(e, verb)
}

func (view roleView) hasAll(e access.Entity) bool {
	return !slices.ContainsFunc(access.Verbs(), func(verb access.Verb) bool { return !view.has(e, verb) })
}

// entities are those of the matrix: the Usage Report (STA) belongs to a system role alone.
func (view roleView) entities() []access.Entity {
	return slices.DeleteFunc(access.Entities(), func(e access.Entity) bool { return e == access.UsageReport && !view.role.System })
}

// named is the role that the address names.
func (s *Site) named(v *visit) (access.Role, error) {
	r, err := s.People.Role(v.Context(), v.viewer.Tenant, v.query("name"))
	if errors.Is(err, control.ErrUnknownRole) {
		err = ErrNotFound
	}
	v.crumbs = []crumb{{"Roles", "/roles"}}
	return r, err
}

func (s *Site) role(v *visit) (templ.Component, error) {
	r, err := s.named(v)
	if err != nil {
		return nil, err
	}
	v.title, v.lead = r.Name, r.Description
	view := roleView{v: v, role: r}
	view.changes = !r.System && v.viewer.May(access.Roles, access.Edit) && v.viewer.Manages(r.Name)
	view.removes = !r.System && v.viewer.May(access.Roles, access.Remove) && v.viewer.Manages(r.Name)
	if view.changes {
		v.actions = append(v.actions, action{title: "Edit", href: roleHref("/roles/edit", r.Name), main: true})
	}
	if view.removes {
		v.actions = append(v.actions, action{title: "Remove", href: roleHref("/roles/remove", r.Name)})
	}
	return rolePage(view), nil
}

// roleForm is the form of a role, with the roles that can be managed.
func (s *Site) roleForm(v *visit, f *form, r access.Role, action string) (templ.Component, error) {
	v.crumbs = []crumb{{"Roles", "/roles"}}
	others, err := s.People.Roles(v.Context(), v.viewer.Tenant)
	if err != nil {
		return nil, err
	}
	return roleFormPage(roleView{v: v, f: f, role: r, others: others, action: action}), nil
}

func (s *Site) roleNew(v *visit) (templ.Component, error) {
	return s.roleForm(v, newForm(nil), access.Role{}, "/roles/new")
}

// roleOf is the role that a form describes.
func roleOf(f *form) access.Role {
	r := access.Role{Name: f.text("name"), Description: f.text("description"), ManageAll: f.text("manage") == "all", Rights: access.Rights{}}
	if !r.ManageAll {
		r.Manages = f.values["manages"]
	}
	for _, right := range f.values["right"] {
		e, verb, _ := strings.Cut(right, ":")
		if verb == "all" {
			r.Rights[access.Entity(e)] = access.Verbs()
		} else if !r.Rights.Has(access.Entity(e), access.Verb(verb)) {
			r.Rights[access.Entity(e)] = append(r.Rights[access.Entity(e)], access.Verb(verb))
		}
	}
	return r
}

func (s *Site) roleCreate(v *visit) (templ.Component, error) {
	f := v.form()
	r := roleOf(f)
	made, err := s.People.CreateRole(v.Context(), v.actor(), v.viewer.Tenant, r)
	if err == nil {
		v.flash("good", "The role "+made.Name+" was created.")
		return nil, redirect{roleHref("/roles/role", made.Name)}
	}
	if err := refusedControl(f, err, "name", "name", "description", "rights", "manages"); err != nil {
		return nil, err
	}
	return s.roleForm(v, f, r, "/roles/new")
}

func (s *Site) roleEdit(v *visit) (templ.Component, error) {
	r, err := s.named(v)
	if err != nil {
		return nil, err
	}
	if r.System || !v.viewer.Manages(r.Name) {
		return nil, ErrForbidden
	}
	f := newForm(nil)
	f.values.Set("name", r.Name)
	f.values.Set("description", r.Description)
	return s.roleForm(v, f, r, roleHref("/roles/edit", r.Name))
}

func (s *Site) roleSave(v *visit) (templ.Component, error) {
	have, err := s.named(v)
	if err != nil {
		return nil, err
	}
	if have.System {
		return nil, ErrForbidden
	}
	f := v.form()
	r := roleOf(f)
	r.Name = have.Name
	_, err = s.People.EditRole(v.Context(), v.actor(), v.viewer.Tenant, have.Name, r)
	if err == nil {
		v.flash("good", "The role "+have.Name+" was changed. Who holds it has the new rights from the next sign-in on.")
		return nil, redirect{roleHref("/roles/role", have.Name)}
	}
	if err := refusedControl(f, err, "description", "description", "rights", "manages"); err != nil {
		return nil, err
	}
	return s.roleForm(v, f, r, roleHref("/roles/edit", have.Name))
}

func (s *Site) roleConfirm(v *visit, r access.Role, problem string) templ.Component {
	v.crumbs = append(v.crumbs, crumb{r.Name, roleHref("/roles/role", r.Name)})
	return confirm(v, confirmation{
		action: roleHref("/roles/remove", r.Name), ask: "Remove the role “" + r.Name + "”?", detail: "Only a role that nobody holds can be removed.",
		do: "Remove", danger: true, back: roleHref("/roles/role", r.Name), problem: problem,
	})
}

func (s *Site) roleAsk(v *visit) (templ.Component, error) {
	r, err := s.named(v)
	if err != nil {
		return nil, err
	}
	if r.System {
		return nil, ErrForbidden
	}
	return s.roleConfirm(v, r, ""), nil
}

func (s *Site) roleRemove(v *visit) (templ.Component, error) {
	r, err := s.named(v)
	if err != nil {
		return nil, err
	}
	err = s.People.RemoveRole(v.Context(), v.actor(), v.viewer.Tenant, r.Name)
	if errors.Is(err, control.ErrInUse) {
		return s.roleConfirm(v, r, sentence(err.Error())), nil
	}
	f := newForm(nil)
	if err := refusedControl(f, err, ""); err != nil {
		return nil, err
	}
	if !f.ok() {
		return s.roleConfirm(v, r, f.faults[""]), nil
	}
	v.flash("good", "The role "+r.Name+" was removed.")
	return nil, redirect{"/roles"}
}
