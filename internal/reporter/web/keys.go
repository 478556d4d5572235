package web

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
)

func keyPages() []page {
	of := func(pattern, title, menu string, verb access.Verb, serve func(*Site, *visit) (templ.Component, error)) page {
		return page{pattern: pattern, title: title, entity: access.Keys, verb: verb, menu: menu, proof: verb != access.View, serve: serve}
	}
	return []page{
		of("GET /keys", "API Keys", menuAdmin, access.View, (*Site).keys),
		of("GET /keys/new", "Create an API key", "", access.Add, (*Site).keyNew),
		of("POST /keys/new", "Create an API key", "", access.Add, (*Site).keyCreate),
		of("GET /keys/{id}/revoke", "Revoke the API key", "", access.Remove, (*Site).keyAsk),
		of("POST /keys/{id}/revoke", "Revoke the API key", "", access.Remove, (*Site).keyRevoke),
	}
}

func (s *Site) keys(v *visit) (templ.Component, error) {
	all, err := s.Control.List(v.Context(), v.viewer.Tenant)
	if err != nil {
		return nil, err
	}
	v.lead = "Keys of programs. A key is shown once, when it is made; revoking it is in force everywhere within seconds."
	if v.viewer.May(access.Keys, access.Add) {
		v.actions = []action{{title: "Create an API key", href: "/keys/new", main: true}}
	}
	t := table{
		name: "API keys",
		columns: []column{
			{title: "Name", kind: asHead}, {title: "ID", kind: asCode}, {title: "Scopes"}, {title: "Created", kind: asShort}, {title: "By"}, {title: "Expires", kind: asShort}, {title: "State", kind: asShort}, {title: "Actions"},
		},
		empty: empty{text: "There is no key yet. A program needs one to send events or to read reports.", do: "Create an API key", href: "/keys/new"},
	}
	slices.Reverse(all) // newest first
	for i := range all {
		k := &all[i]
		tone, state, do := "good", "in force", txt("")
		switch {
		case !k.RevokedAt.IsZero():
			tone, state = "", "revoked "+k.RevokedAt.UTC().Format("2006-01-02")
		case !k.ExpiresAt.IsZero() && !v.now.Before(k.ExpiresAt):
			tone, state = "warn", "expired"
		case v.viewer.May(access.Keys, access.Remove):
			do = linked("Revoke", "/keys/"+k.ID+"/revoke")
		}
		t.rows = append(t.rows, row{
			txt(cmp.Or(k.Name, "(no name)")), txt(k.ID), txt(strings.Join(k.Scopes, ", ")), txt(minute(k.CreatedAt)), txt(k.CreatedBy),
			txt(cmp.Or(minute(k.ExpiresAt), "never")), comp(badge(tone, state)), do,
		})
	}
	return v.paged(t), nil
}

type keyView struct {
	v      *visit
	f      *form
	scopes []string
	key    control.Key
	secret string
}

// scopesOf are the scopes that the viewer may give a key.
func scopesOf(v *visit) []string {
	return slices.DeleteFunc(slices.Clone(control.Scopes()), func(scope string) bool {
		rights, known := access.ScopeRights(scope)
		if !known {
			return !v.viewer.ManagesAll()
		}
		return slices.ContainsFunc(rights, func(r access.Right) bool { return !v.viewer.ReachesAll(r.Entity, r.Verb) })
	})
}

func scopeText(scope string) string {
	return map[string]string{
		"events:write": "send events", "events:backfill": "send events of the past, with the time at which they were recorded", "usage:read": "read usage",
		"reports:read": "read every report", "reports:write": "make reports in the background and schedules", "months:close": "close months",
		"dlq:read": "read dead letters", "dlq:write": "replay dead letters", "sql:read": "read views by SQL", "admin": "manage keys, roles and operators",
	}[scope]
}

func expiries() []option {
	return []option{{"30", "30 days"}, {"90", "90 days"}, {"365", "One year"}, {"on", "On a day"}, {"", "Never"}}
}

func (s *Site) keyNew(v *visit) (templ.Component, error) {
	v.crumbs = []crumb{{"API Keys", "/keys"}}
	f := newForm(nil)
	f.values.Set("expires", "365")
	return keyNewPage(keyView{v: v, f: f, scopes: scopesOf(v)}), nil
}

func (s *Site) keyCreate(v *visit) (templ.Component, error) {
	v.crumbs = []crumb{{"API Keys", "/keys"}}
	f := v.form()
	view := keyView{v: v, f: f, scopes: scopesOf(v)}
	scopes := f.values["scope"]
	for _, scope := range scopes {
		if !slices.Contains(view.scopes, scope) {
			return nil, ErrForbidden
		}
	}
	if len(scopes) == 0 {
		f.refuse("scope", "Choose at least one: a key without a scope may do nothing.")
	}
	spec := control.Spec{Tenant: v.viewer.Tenant, Name: f.text("name"), Scopes: scopes, By: v.actor().By}
	days := map[string]int{"30": 30, "90": 90, "365": 365}
	switch chosen := f.text("expires"); {
	case days[chosen] > 0:
		spec.Expires = v.now.UTC().AddDate(0, 0, days[chosen]).Truncate(time.Second)
	case chosen == "on":
		at, err := time.Parse(time.DateOnly, f.text("until"))
		if err != nil || !at.After(v.now) {
			f.refuse("until", "Choose a day in the future.")
		}
		spec.Expires = at
	case chosen != "":
		f.refuse("expires", "Choose one of the list.")
	}
	if !f.ok() {
		return keyNewPage(view), nil
	}
	view.secret = control.NewToken()
	var err error
	if view.key, err = s.Control.CreateWithSecret(control.From(v.Context(), v.actor().From), view.secret, spec); err != nil {
		if err := refusedControl(f, err, "name", "name", "scope"); err != nil {
			return nil, err
		}
		return keyNewPage(view), nil
	}
	v.title = "The key was created"
	return keyShownPage(view), nil
}

// key is the one that the address names, of the viewer's tenant.
func (s *Site) key(v *visit) (control.Key, error) {
	v.crumbs = []crumb{{"API Keys", "/keys"}}
	k, err := s.Control.Get(v.Context(), v.PathValue("id"))
	if errors.Is(err, control.ErrUnknownKey) || err == nil && k.Tenant != v.viewer.Tenant {
		return k, ErrNotFound
	}
	return k, err
}

func (s *Site) keyAsk(v *visit) (templ.Component, error) {
	k, err := s.key(v)
	if err != nil {
		return nil, err
	}
	return confirm(v, confirmation{
		action: "/keys/" + k.ID + "/revoke", ask: "Revoke the key " + cmp.Or(k.Name, k.ID) + "?", do: "Revoke", danger: true, back: "/keys",
		detail: "Programs that use it (" + strings.Join(k.Scopes, ", ") + ") are refused within seconds. This cannot be undone.",
	}), nil
}

func (s *Site) keyRevoke(v *visit) (templ.Component, error) {
	k, err := s.key(v)
	if err != nil {
		return nil, err
	}
	if err := s.Control.RevokeBy(control.From(v.Context(), v.actor().From), k.ID, v.actor().By); err != nil {
		return nil, err
	}
	v.flash("good", "The key "+cmp.Or(k.Name, k.ID)+" was revoked.")
	return nil, redirect{"/keys"}
}
