package scenario

import (
	"testing"
)

// Several subscriptions of one customer, of one that has no reseller and of one that is a reseller's by the tree; one
// that is backdated, one that does not renew itself, one that was ordered again after its cancellation.
func TestE13SeveralSubscriptions(t *testing.T) {
	w := newWorld(t)
	order := func(at, account, id, name, start string, term int, more d) event {
		data := d{
			"transaction_id": "O-" + id, "subscription_id": id, "name": name, "items": []d{item("SSL", "Pro", "2", "30.00")}, "term_months": term,
			"start": instant(start), "end": "2099-01-01T00:00:00Z", "cost": "45.125", "currency": "EUR", "actor": person("Ann"),
		}
		for k, v := range more {
			data[k] = v
		}
		return ev(at, "subscription.ordered", account, data)
	}
	w.send(fixtureE()...)
	w.send(
		ev("2024-06-01", "account.created", "K-3", d{"name": "Mu", "kind": "customer", "parent_account_id": "R-1"}),
		order("2025-02-10", "K-1", "B", "Backdated", "2025-01-31", 1, d{"end": "2025-02-28T00:00:00Z"}),
		order("2025-02-10", "K-1", "C", "Short", "2025-02-10", 1, d{"end": "2025-03-10T00:00:00Z", "auto_renew": false}),
		order("2025-02-11", "K-2", "D", "Alone", "2025-02-11", 12, d{"end": "2026-02-10T00:00:00Z"}),
		order("2025-02-11", "K-3", "E", "By the tree", "2025-02-11", 12, d{"end": "2026-02-11T00:00:00Z", "actor": d{"id": "u-7"}}),
		order("2025-02-12", "K-3", "E", "Again", "2025-02-12", 12, d{"transaction_id": "O-E1"}).named("again"),
	)
	w.want("subscriptions", w.subscriptions("as_of", "2025-03-09T23:59:59.999Z"), `
Kappa,B,Resell Co,Backdated,2025-02-27,45.12,2025-02-10,ann@partner.com,2025-02-10,2
Kappa,C,Resell Co,Short,2025-03-09,45.12,2025-02-10,ann@partner.com,2025-02-10,2
Lambda,D,,Alone,2026-02-10,45.12,2025-02-11,ann@partner.com,2025-02-11,2
Mu,E,Resell Co,By the tree,2026-02-10,45.12,2025-02-11,u-7,2025-02-11,2`)
	w.want("its last day is over", w.subscriptions("as_of", "2025-03-10T00:00:00Z", "customer", "K-1"),
		"Kappa,B,Resell Co,Backdated,2025-02-27,45.12,2025-02-10,ann@partner.com,2025-02-10,2")
	w.want("ordered twice", w.letters(), "again rule:subscription-exists")
	w.want("usage", w.byType(), "Kappa,K-1,Resell Co,SSL,2,2,0\nLambda,K-2,,SSL,2,2,0\nMu,K-3,Resell Co,SSL,2,2,0")
	w.want("a reseller's", w.csv("certificate-usage", "partner", "R-1"),
		"Customer,Customer ID,Reseller,Current Inventory,Available,Used\nKappa,K-1,Resell Co,2,2,0\nMu,K-3,Resell Co,2,2,0")

	w.send(ev("2025-04-01", "subscription.cancelled", "K-3", d{"transaction_id": "X", "subscription_id": "E", "cost": "0", "actor": person("Bob")}),
		order("2025-04-02", "K-3", "E", "Ordered anew", "2025-04-02", 1, d{"transaction_id": "O-E2", "end": "2025-05-02T00:00:00Z", "items": []d{item("SSL", "Pro", "5", "1")}}))
	w.want("anew", w.subscriptions("customer", "K-3"), "Mu,E,Resell Co,Ordered anew,2025-05-01,45.12,2025-04-02,ann@partner.com,2025-04-02,5")
	w.want("its transactions", w.transactions("customer", "K-3"), `
Mu,K-3,E,Resell Co,Pro,O-E,Inventory,2025-02-11,2,45.12,u-7
Mu,K-3,E,Resell Co,Pro,X,Cancel,2025-04-01,2,0.00,Bob
Mu,K-3,E,Resell Co,Pro,O-E2,Inventory,2025-04-02,5,45.12,Ann`)
}

// A decrease: an absolute number, no cost, and not below what is in use; a renewal with less than is in use leaves
// nothing available.
func TestE14Decrease(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureE()...)
	w.send(orderedE1(), inventory("2025-03-01", "inventory.changed", "T-2", "-3", "0"))
	w.want("transactions", w.transactions("from", "2025-03-01"), "Kappa,K-1,SUB-1,Resell Co,Enterprise SSL,T-2,Inventory,2025-03-01,3,0.00,Bob")
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		w.send(certificate("2025-03-02", "certificate.issued", id, ssl()))
	}
	w.send(inventory("2025-03-03", "inventory.changed", "T-3", "-2", "0").named("too-many"))
	w.want("usage", w.byType(), "Kappa,K-1,Resell Co,S/MIME,5,5,0\nKappa,K-1,Resell Co,SSL,7,1,6")
	w.want("below used", w.letters(), "too-many rule:inventory-below-used")
	w.send(inventory("2025-03-04", "renewal_inventory.changed", "T-4", "-4", "0"),
		ev("2026-01-01", "subscription.renewed", "K-1", d{
			"transaction_id": "T-5", "subscription_id": "SUB-1", "new_start": "2026-01-01T00:00:00Z", "new_end": "2026-12-31T00:00:00Z", "cost": "250.005",
		}))
	w.want("renewed", w.subscriptions(), "Kappa,SUB-1,Resell Co,Enterprise SSL,2026-12-31,250.00,2025-01-01,System,2026-01-01,8")
	w.want("less than in use", w.byType(), "Kappa,K-1,Resell Co,S/MIME,5,5,0\nKappa,K-1,Resell Co,SSL,3,0,6")
	// Two certificates end; then the change that was too much is legal, if it comes again.
	w.send(certificate("2026-01-02", "certificate.revoked", "a", nil), certificate("2026-01-02", "certificate.expired", "b", nil),
		certificate("2026-01-03", "certificate.revoked", "c", nil), certificate("2026-01-03", "certificate.revoked", "c", nil))
	w.want("in the end", w.byType(), "Kappa,K-1,Resell Co,S/MIME,5,5,0\nKappa,K-1,Resell Co,SSL,3,0,3")
}
