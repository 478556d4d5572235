package reporter

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
)

type rolesOutput struct{ Body rolesAnswer }

type rolesAnswer struct {
	Rows []access.Role `json:"rows" doc:"The system roles first, then the tenant's own by name"`
}

type roleOutput struct{ Body access.Role }

type roleInput struct {
	Name string `path:"name"`
}

type editRoleInput struct {
	Name    string `path:"name"`
	RawBody []byte
}

// newRole is the body of POST /roles.
type newRole struct {
	Name        string        `json:"name" doc:"Unique in the tenant, whatever the case; a role keeps it"`
	Description string        `json:"description,omitempty" required:"false"`
	Rights      access.Rights `json:"rights" doc:"Verbs (view, add, edit, remove, all) by entity"`
	ManageAll   bool          `json:"manage_all_roles,omitempty" required:"false" doc:"Holders may make, give and change every role"`
	Manages     []string      `json:"manages,omitempty" required:"false" doc:"else those of these names"`
}

// roleBody is what can be set of a role.
type roleBody struct {
	Description string        `json:"description,omitempty" required:"false"`
	Rights      access.Rights `json:"rights" doc:"Verbs (view, add, edit, remove, all) by entity"`
	ManageAll   bool          `json:"manage_all_roles,omitempty" required:"false" doc:"Holders may make, give and change every role"`
	Manages     []string      `json:"manages,omitempty" required:"false" doc:"else those of these names"`
}

func (b roleBody) role(name string) access.Role {
	return access.Role{Name: name, Description: b.Description, Rights: b.Rights, ManageAll: b.ManageAll, Manages: b.Manages}
}

func (s *server) registerRoles() {
	register(s, endpoint{Operation: operation("roles", http.MethodGet, "/roles", tagRights, "Roles and what they allow",
		"System roles cannot be changed. A right holds for the accounts that the role was granted for.")}, func(ctx context.Context, who caller, _ *none) (*rolesOutput, error) {
		all, err := s.people.Roles(ctx, who.Tenant)
		return &rolesOutput{rolesAnswer{all}}, peopleProblem(err)
	})
	register(s, endpoint{Operation: operation("role", http.MethodGet, "/roles/{name}", tagRights, "One role", "")}, func(ctx context.Context, who caller, in *roleInput) (*roleOutput, error) {
		r, err := s.people.Role(ctx, who.Tenant, in.Name)
		return &roleOutput{r}, peopleProblem(err)
	})
	create := operation("create-role", http.MethodPost, "/roles", tagRights, "Make a role", "Who makes it needs every right in it, or to manage all roles.")
	create.DefaultStatus, create.RequestBody = http.StatusCreated, jsonBody[newRole](s, "NewRole")
	register(s, endpoint{Operation: create}, func(ctx context.Context, who caller, in *rawBody) (*roleOutput, error) {
		var body newRole
		if err := readBody(in.RawBody, &body); err != nil {
			return nil, err
		}
		r, err := s.people.CreateRole(ctx, who.actor(), who.Tenant, roleBody{body.Description, body.Rights, body.ManageAll, body.Manages}.role(body.Name))
		return &roleOutput{r}, peopleProblem(err)
	})
	edit := operation("edit-role", http.MethodPut, "/roles/{name}", tagRights, "Replace what a role allows", "Who holds it has the new rights from their next sign-in on.")
	edit.RequestBody = jsonBody[roleBody](s, "RoleBody")
	register(s, endpoint{Operation: edit}, func(ctx context.Context, who caller, in *editRoleInput) (*roleOutput, error) {
		var body roleBody
		if err := readBody(in.RawBody, &body); err != nil {
			return nil, err
		}
		r, err := s.people.EditRole(ctx, who.actor(), who.Tenant, in.Name, body.role(in.Name))
		return &roleOutput{r}, peopleProblem(err)
	})
	remove := operation("remove-role", http.MethodDelete, "/roles/{name}", tagRights, "End a role that nobody holds", "")
	remove.DefaultStatus = http.StatusNoContent
	register(s, endpoint{Operation: remove}, func(ctx context.Context, who caller, in *roleInput) (*none, error) {
		return nil, peopleProblem(s.people.RemoveRole(ctx, who.actor(), who.Tenant, in.Name))
	})
}

// peopleProblem is what the client sees of a failure with operators, roles and their keys.
func peopleProblem(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, control.ErrUnknownOperator), errors.Is(err, control.ErrUnknownRole):
		return refuse(codeNotFound, err.Error())
	case errors.Is(err, control.ErrUnknownKey), errors.Is(err, access.ErrOutside):
		return refuse(codeNotFound, "no such operator, role, grant or key")
	case errors.Is(err, access.ErrForbidden):
		return refuse(codeForbidden, err.Error())
	case errors.Is(err, control.ErrInvalid):
		return invalid(codeValue, err)
	case errors.Is(err, control.ErrTaken), errors.Is(err, control.ErrInUse), errors.Is(err, control.ErrConflict):
		return refuse(codeTaken, err.Error())
	case errors.Is(err, control.ErrUnavailable):
		return refuse(codeKeys, "the change may have been made or not; look before repeating it")
	}
	return fmt.Errorf("people: %w", err)
}
