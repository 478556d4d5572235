package months

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// Certified is the certificate of an audit with what the auditor does not know added to it: closed versions whose rows
// no longer hash to what was closed. The log cannot tell, because a closed version is served as it was stored. tenant ""
// is every tenant, month "" every month. A version that lost rows is made again within a minute; one whose rows were
// changed is not, because nothing is repaired silently.
func (k *Keeper) Certified(ctx context.Context, certificate json.RawMessage, tenant, month string) (json.RawMessage, error) {
	found, err := k.changed(ctx, tenant, month)
	if err != nil {
		return nil, fmt.Errorf("hash the closed months: %w", err)
	}
	if len(found) == 0 {
		return certificate, nil
	}
	var c audit.Certificate
	if err := json.Unmarshal(certificate, &c); err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	if err := c.Add(found); err != nil {
		return nil, err
	}
	return json.Marshal(&c)
}

// changed are the versions whose stored rows hash to something else than was decided on.
func (k *Keeper) changed(ctx context.Context, tenant, month string) ([]audit.Difference, error) {
	reading, cancel := context.WithTimeout(ctx, verifyWait)
	defer cancel()
	all, err := k.Control.ClosedMonths(reading) // one that was closed a moment ago as well, here or elsewhere
	if err != nil {
		return nil, err
	}
	var found []audit.Difference
	for _, m := range all {
		if tenant != "" && m.Tenant != tenant || month != "" && m.Month != month {
			continue
		}
		at, err := usage.ParseMonth(m.Month)
		if err != nil {
			return nil, err
		}
		for _, v := range m.Versions {
			have, err := k.stored(ctx, m.Tenant, at, v.CloseID)
			if err != nil {
				return nil, err
			}
			sum, err := have.sum(m.Tenant, m.Month)
			if err != nil {
				return nil, err
			}
			if sum != v.SHA256 {
				found = append(found, audit.Difference{
					Check: audit.CheckVersion, Tenant: m.Tenant, Month: m.Month, Want: v.SHA256, Have: sum,
					What: fmt.Sprintf("the rows of version %d are not those that were closed", v.Version),
				})
			}
		}
	}
	return found, nil
}
