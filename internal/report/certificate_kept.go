package report

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// stockUsesKept bounds what is kept over all tenants: subscriptions times kinds, about 150 bytes each.
const stockUsesKept = 200_000

// stockUse is how many certificates of a kind a subscription has in use.
type stockUse struct {
	subscription string
	kind         directory.StockKey
	n            int64
}

// certificateUses are the certificates in use, each counted once. They are kept by all that they follow from: the rows
// about certificates that are in the cut and had happened, and when which subscription was first ordered. Partners of a
// tenant share them.
func (r *Reports) certificateUses(ctx context.Context, ask Ask, at int64, subscriptions []string, ordered []int64) ([]stockUse, error) {
	of, err := r.prints(ctx, userPrints, ask.Tenant, ask.Cut, directory.CertificateTypes(), 0, []int64{at + 1})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(struct {
		Subscriptions []string
		Ordered       []int64
	}{subscriptions, ordered})
	if err != nil {
		return nil, fmt.Errorf("name the subscriptions: %w", err)
	}
	name := fmt.Sprintf("%s %d %x %x", ask.Tenant, of[0].rows, of[0].hash, sha256.Sum256(text))
	settled := ask.Cut.Shards != nil // rows of a cut without positions may still come
	if settled {
		if known := r.stocks.get(name); known != nil {
			return *known, nil
		}
	}
	params := ask.Cut.params(map[string]any{
		"tenant": ask.Tenant, "types": directory.CertificateTypes(), "at": at, "subscriptions": subscriptions, "ordered": ordered,
	})
	uses := []stockUse{}
	err = r.certificateCounts(ctx, params, func(subscription string, kind directory.StockKey, n int64) {
		uses = append(uses, stockUse{subscription, kind, n})
	})
	if err != nil || !settled {
		return uses, err
	}
	return *r.stocks.put(name, &uses, 1+len(uses)), nil
}
