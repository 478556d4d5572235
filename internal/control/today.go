package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/countinghouse/countinghouse/internal/access"
)

// ErrDisabled: the operator is there and may do nothing.
var ErrDisabled = errors.New("the operator is disabled")

// held is what the roles of an operator allow at this moment. One that is there no more allows nothing.
func (p *People) held(ctx context.Context, o Operator) ([]access.Held, error) {
	held := []access.Held{}
	for _, g := range o.Grants {
		role, err := p.Role(ctx, o.Tenant, g.Role)
		if errors.Is(err, ErrUnknownRole) {
			continue
		}
		if err != nil {
			return nil, err
		}
		held = append(held, access.Held{Grant: g, Rights: role.Rights, ManageAll: role.ManageAll, Manages: role.Manages})
	}
	return held, nil
}

// Today is an operator with what they may at this moment, whatever their sessions say: for what is done in their name
// while they are not there. ErrUnknownOperator if the tenant has none of that login, ErrDisabled if it is disabled.
func (p *People) Today(ctx context.Context, tenant, login string) (*access.Viewer, error) {
	o, err := p.Operator(ctx, tenant, operatorID(login))
	if err != nil {
		return nil, err
	}
	if !o.DisabledAt.IsZero() {
		return nil, fmt.Errorf("%w since %s", ErrDisabled, o.DisabledAt.UTC().Format("2006-01-02 15:04"))
	}
	held, err := p.held(ctx, o)
	if err != nil {
		return nil, err
	}
	return &access.Viewer{Tenant: o.Tenant, ID: o.ID, Login: o.Login, Name: o.Name, Held: held}, nil
}
