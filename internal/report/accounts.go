package report

import (
	"cmp"
	"context"
	"math/big"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
)

// AccountInfo is an account as lists show it, as known now.
type AccountInfo struct {
	ID, Name, Kind string
	Parent         string // "" for a root
	Path           string // ids from the root down to it, each followed by a slash
	Depth          int    // accounts above it
	Reseller       string
	ContractMode   string // UNKNOWN where nobody set it
	Currency       string
	Plans          []string // of services, as "sta STA Basic"
	Bundles        []string // of the entitlements in force, sorted
	Users          string   // entitled
	CreatedAt      Instant
	Status         string // "Active" or "Disabled" as set for service sta, "Deleted"; "Active" where nothing is set
}

// Accounts lists a tenant's accounts, deleted ones too: each after the one above it, siblings by name, then id.
func (r *Reports) Accounts(ctx context.Context, tenant string) ([]AccountInfo, error) {
	cut, err := r.cut(ctx, Query{AsOf: directory.Latest})
	if err != nil {
		return nil, err
	}
	state, err := r.directoryAt(ctx, tenant, cut)
	if err != nil {
		return nil, err
	}
	at := cut.AsOf
	tree := state.Tree(at + 1)
	var roots []directory.Account
	for _, id := range state.Accounts(at) {
		if tree.Parent(id) == "" {
			a, _ := state.Account(id, at)
			roots = append(roots, a)
		}
	}
	slices.SortFunc(roots, func(a, b directory.Account) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	all := []AccountInfo{}
	paths := map[string]string{}
	for _, root := range roots {
		for _, id := range append([]string{root.ID}, tree.Below(root.ID)...) {
			info := accountInfo(state, id, at)
			info.Parent, info.Depth = tree.Parent(id), tree.Depth(id)
			info.Path = paths[info.Parent] + id + "/"
			paths[id] = info.Path
			all = append(all, info)
		}
	}
	return all, nil
}

func accountInfo(state *directory.State, id string, at int64) AccountInfo {
	a, _ := state.Account(id, at)
	info := AccountInfo{ID: id, Name: a.Name, Kind: a.Kind, Reseller: a.Reseller, ContractMode: contractMode(a), Currency: a.Currency, CreatedAt: Instant(a.CreatedAt), Status: "Active"}
	switch {
	case a.Deleted:
		info.Status = "Deleted"
	case staStatus(state, id, at) != "":
		info.Status = staStatus(state, id, at)
	}
	for _, p := range state.Plans(id, at) {
		if p.Plan != "" {
			info.Plans = append(info.Plans, p.Service+" "+p.Plan)
		}
	}
	users := new(big.Int)
	for _, e := range state.Entitlements(id, at) {
		if !e.InForce(at) {
			continue
		}
		if e.Users {
			users.Add(users, e.Quantity)
		}
		info.Bundles = append(info.Bundles, e.Bundles...)
	}
	slices.Sort(info.Bundles)
	info.Bundles, info.Users = slices.Compact(info.Bundles), formatAmount(users)
	return info
}
