package reporter

import (
	"context"
	"net/http"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
)

// tagRights groups what is about who may do what.
const tagRights = "rights"

type operatorsOutput struct{ Body operatorsAnswer }

type operatorsAnswer struct {
	Rows []control.Operator `json:"rows" doc:"By login, disabled ones included"`
}

type operatorOutput struct{ Body control.Operator }

type operatorInput struct {
	ID string `path:"id" doc:"id or login"`
}

type operatorBodyInput struct {
	ID      string `path:"id" doc:"id or login"`
	RawBody []byte
}

// newOperator is the body of POST /operators.
type newOperator struct {
	Login    string         `json:"login" doc:"Unique over all tenants, whatever the case"`
	Name     string         `json:"name,omitempty" required:"false"`
	Email    string         `json:"email,omitempty" required:"false"`
	Subject  string         `json:"subject,omitempty" required:"false" doc:"At the issuer of OIDC: <issuer>|<sub>; default: bound at the first sign-in there"`
	Password string         `json:"password,omitempty" required:"false" doc:"12 to 256 characters; without one the operator signs in at the issuer only"`
	Grants   []access.Grant `json:"grants,omitempty" required:"false"`
}

// operatorEdit is the body of PATCH /operators/{id}; what is not there stays.
type operatorEdit struct {
	Name    *string `json:"name,omitempty" required:"false"`
	Email   *string `json:"email,omitempty" required:"false"`
	Subject *string `json:"subject,omitempty" required:"false"`
}

type passwordBody struct {
	Password string `json:"password" doc:"12 to 256 characters"`
}

type grantsOutput struct{ Body grantsAnswer }

type grantsAnswer struct {
	Rows []access.Grant `json:"rows"`
}

type grantInput struct {
	ID      string `path:"id" doc:"id or login"`
	Role    string `query:"role" doc:"Name of the role"`
	Account string `query:"account" doc:"Account that it was granted for; none: the whole tenant"`
}

func (s *server) registerOperators() {
	s.registerOperatorReads()
	s.registerOperatorChanges()
	s.registerGrants()
}

func (s *server) registerOperatorReads() {
	register(s, endpoint{Operation: operation("operators", http.MethodGet, "/operators", tagRights, "Who may sign in", "")},
		func(ctx context.Context, who caller, _ *none) (*operatorsOutput, error) {
			all, err := s.people.Operators(ctx, who.Tenant)
			return &operatorsOutput{operatorsAnswer{all}}, peopleProblem(err)
		})
	register(s, endpoint{Operation: operation("operator", http.MethodGet, "/operators/{id}", tagRights, "One operator", "")},
		func(ctx context.Context, who caller, in *operatorInput) (*operatorOutput, error) {
			o, err := s.people.Operator(ctx, who.Tenant, in.ID)
			return &operatorOutput{o}, peopleProblem(err)
		})
}

func (s *server) registerOperatorChanges() {
	create := operation("create-operator", http.MethodPost, "/operators", tagRights, "Make an operator", "Roles can only be given by who manages them.")
	create.DefaultStatus, create.RequestBody = http.StatusCreated, jsonBody[newOperator](s, "NewOperator")
	register(s, endpoint{Operation: create}, func(ctx context.Context, who caller, in *rawBody) (*operatorOutput, error) {
		var body newOperator
		if err := readBody(in.RawBody, &body); err != nil {
			return nil, err
		}
		o, err := s.people.CreateOperator(ctx, who.actor(), control.OperatorSpec{
			Tenant: who.Tenant, Login: body.Login, Name: body.Name, Email: body.Email, Subject: body.Subject, Password: body.Password, Grants: body.Grants,
		})
		return &operatorOutput{o}, peopleProblem(err)
	})
	edit := operation("edit-operator", http.MethodPatch, "/operators/{id}", tagRights, "Change what is said of an operator",
		"Who changes an operator manages every role that the operator has.")
	edit.RequestBody = jsonBody[operatorEdit](s, "OperatorEdit")
	register(s, endpoint{Operation: edit}, func(ctx context.Context, who caller, in *operatorBodyInput) (*operatorOutput, error) {
		var body operatorEdit
		if err := readBody(in.RawBody, &body); err != nil {
			return nil, err
		}
		o, err := s.people.EditOperator(ctx, who.actor(), who.Tenant, in.ID, control.OperatorEdit(body))
		return &operatorOutput{o}, peopleProblem(err)
	})
	register(s, endpoint{Operation: operation("disable-operator", http.MethodPost, "/operators/{id}/disable", tagRights, "Let an operator no longer sign in", "Ends the operator's sessions everywhere within 5 s.")},
		func(ctx context.Context, who caller, in *operatorInput) (*operatorOutput, error) {
			o, err := s.people.DisableOperator(ctx, who.actor(), who.Tenant, in.ID)
			return &operatorOutput{o}, peopleProblem(err)
		})
	register(s, endpoint{Operation: operation("enable-operator", http.MethodPost, "/operators/{id}/enable", tagRights, "Let an operator sign in again", "")},
		func(ctx context.Context, who caller, in *operatorInput) (*operatorOutput, error) {
			o, err := s.people.EnableOperator(ctx, who.actor(), who.Tenant, in.ID)
			return &operatorOutput{o}, peopleProblem(err)
		})
	password := operation("set-password", http.MethodPost, "/operators/{id}/password", tagRights, "Give an operator another password", "Ends the operator's sessions.")
	password.RequestBody = jsonBody[passwordBody](s, "Password")
	register(s, endpoint{Operation: password}, func(ctx context.Context, who caller, in *operatorBodyInput) (*operatorOutput, error) {
		var body passwordBody
		if err := readBody(in.RawBody, &body); err != nil {
			return nil, err
		}
		o, err := s.people.SetPassword(ctx, who.actor(), who.Tenant, in.ID, body.Password)
		return &operatorOutput{o}, peopleProblem(err)
	})
}

func (s *server) registerGrants() {
	const next = "In force from the operator's next sign-in on."
	register(s, endpoint{Operation: operation("grants", http.MethodGet, "/operators/{id}/grants", tagRights, "The roles of an operator", "")},
		func(ctx context.Context, who caller, in *operatorInput) (*grantsOutput, error) {
			o, err := s.people.Operator(ctx, who.Tenant, in.ID)
			return &grantsOutput{grantsAnswer{o.Grants}}, peopleProblem(err)
		})
	create := operation("create-grant", http.MethodPost, "/operators/{id}/grants", tagRights, "Give an operator a role", next)
	create.RequestBody, create.DefaultStatus = jsonBody[access.Grant](s, "NewGrant"), http.StatusCreated
	register(s, endpoint{Operation: create}, func(ctx context.Context, who caller, in *operatorBodyInput) (*grantsOutput, error) {
		var body access.Grant
		if err := readBody(in.RawBody, &body); err != nil {
			return nil, err
		}
		o, err := s.people.Grant(ctx, who.actor(), who.Tenant, in.ID, body)
		return &grantsOutput{grantsAnswer{o.Grants}}, peopleProblem(err)
	})
	remove := operation("remove-grant", http.MethodDelete, "/operators/{id}/grants", tagRights, "Take a role from an operator", next)
	remove.DefaultStatus = http.StatusNoContent
	register(s, endpoint{Operation: remove}, func(ctx context.Context, who caller, in *grantInput) (*none, error) {
		_, err := s.people.Revoke(ctx, who.actor(), who.Tenant, in.ID, access.Grant{Role: in.Role, Account: in.Account})
		return nil, peopleProblem(err)
	})
}
