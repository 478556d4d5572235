package reporter

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

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
	tags := []string{"rights"}
	register(s, endpoint{Operation: huma.Operation{
		OperationID: "roles", Method: http.MethodGet, Path: "/roles", Tags: tags, Summary: "Roles and what they allow",
		Description: "System roles cannot be changed. A right holds for the accounts that the role was granted for.",
	}}, func(ctx context.Context, who caller, _ *none) (*rolesOutput, error) {
		all, err := s.people.Roles(ctx, who.Tenant)
		return &rolesOutput{rolesAnswer{all}}, peopleProblem(err)
	})
	register(s, endpoint{Operation: huma.Operation{
		OperationID: "role", Method: http.MethodGet, Path: "/roles/{name}", Tags: tags, Summary: "One role",
	}}, func(ctx context.Context, who caller, in *roleInput) (*roleOutput, error) {
		r, err := s.people.Role(ctx, who.Tenant, in.Name)
		return &roleOutput{r}, peopleProblem(err)
	})
	register(s, endpoint{Operation: huma.Operation{
		OperationID: "create-role", Method: http.MethodPost, Path: "/roles", Tags: tags, Summary: "Make a role", DefaultStatus: http.StatusCreated,
		Description:  "Who makes it needs every right in it, or to manage all roles.",
		MaxBodyBytes: -1, RequestBody: rightsBody[newRole](s, "NewRole"),
	}}, func(ctx context.Context, who caller, in *rightsInput) (*roleOutput, error) {
		var body newRole
		if err := readBody(in.RawBody, &body); err != nil {
			return nil, err
		}
		r, err := s.people.CreateRole(ctx, who.actor(), who.Tenant, roleBody{body.Description, body.Rights, body.ManageAll, body.Manages}.role(body.Name))
		return &roleOutput{r}, peopleProblem(err)
	})
	register(s, endpoint{Operation: huma.Operation{
		OperationID: "edit-role", Method: http.MethodPut, Path: "/roles/{name}", Tags: tags, Summary: "Replace what a role allows",
		Description:  "Who holds it has the new rights from their next sign-in on.",
		MaxBodyBytes: -1, RequestBody: rightsBody[roleBody](s, "RoleBody"),
	}}, func(ctx context.Context, who caller, in *editRoleInput) (*roleOutput, error) {
		var body roleBody
		if err := readBody(in.RawBody, &body); err != nil {
			return nil, err
		}
		r, err := s.people.EditRole(ctx, who.actor(), who.Tenant, in.Name, body.role(in.Name))
		return &roleOutput{r}, peopleProblem(err)
	})
	register(s, endpoint{Operation: huma.Operation{
		OperationID: "remove-role", Method: http.MethodDelete, Path: "/roles/{name}", Tags: tags, Summary: "End a role that nobody holds",
		DefaultStatus: http.StatusNoContent,
	}}, func(ctx context.Context, who caller, in *roleInput) (*none, error) {
		return nil, peopleProblem(s.people.RemoveRole(ctx, who.actor(), who.Tenant, in.Name))
	})
}

// peopleProblem is what the client sees of a failure with operators, roles and their keys.
func peopleProblem(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, control.ErrUnknownOperator), errors.Is(err, control.ErrUnknownRole), errors.Is(err, control.ErrUnknownKey), errors.Is(err, access.ErrOutside):
		return refuse(codeNotFound, "no such operator, role, grant or key")
	case errors.Is(err, access.ErrForbidden):
		return refuse(codeForbidden, err.Error())
	case errors.Is(err, control.ErrInvalid):
		return refuse(codeValue, err.Error())
	case errors.Is(err, control.ErrTaken), errors.Is(err, control.ErrInUse), errors.Is(err, control.ErrConflict):
		return refuse(codeTaken, err.Error())
	case errors.Is(err, control.ErrUnavailable):
		return refuse(codeKeys, "the change may have been made or not; look before repeating it")
	}
	return fmt.Errorf("people: %w", err)
}
