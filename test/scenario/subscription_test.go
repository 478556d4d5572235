package scenario

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const (
	subscriptionsHead = "Customer,Subscription ID,Reseller,Subscription,End,Cost,Order Date,Last modified by,Last modified date,Items Quantity\n"
	transactionsHead  = "Customer,Customer ID,Subscription ID,Reseller,Product(s),Transaction ID,Action,Date,Total,Cost,User\n"
	byTypeHead        = "Customer,Customer ID,Reseller,Certificate Type,Current Inventory,Available,Used\n"
)

func person(name string) d {
	return d{"id": strings.ToLower(name), "name": name, "email": strings.ToLower(name) + "@partner.com"}
}

// fixtureE is the partner of the scenarios of subscriptions.
func fixtureE() []event {
	const at = "2024-01-01"
	return []event{
		ev(at, "account.created", "Dist", d{"name": "Dist", "kind": "distributor"}),
		ev(at, "account.created", "R-1", d{"name": "Resell Co", "kind": "reseller", "parent_account_id": "Dist"}),
		ev(at, "account.created", "K-1", d{"name": "Kappa", "kind": "customer", "parent_account_id": "Dist", "reseller": "R-1"}),
		ev(at, "account.created", "K-2", d{"name": "Lambda", "kind": "customer", "parent_account_id": "Dist"}),
	}
}

func item(typ, product, quantity, price string) d {
	return d{"cert_type": typ, "product": product, "quantity": quantity, "unit_price": price}
}

func orderedE1() event {
	return ev("2025-01-01", "subscription.ordered", "K-1", d{
		"transaction_id": "T-1", "subscription_id": "SUB-1", "name": "Enterprise SSL", "products": []string{"Enterprise SSL", "Secure Email"},
		"items": []d{item("SSL", "Enterprise SSL", "10", "50.00"), item("S/MIME", "Secure Email", "5", "20.00")}, "term_months": 12,
		"start": "2025-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z", "auto_renew": true, "cost": "600.00", "currency": "EUR", "actor": person("Ann"),
	})
}

func inventory(at, typ, transaction, delta, cost string) event {
	return ev(at, typ, "K-1", d{
		"transaction_id": transaction, "subscription_id": "SUB-1", "deltas": []d{{"cert_type": "SSL", "product": "Enterprise SSL", "delta": delta}}, "cost": cost, "actor": person("Bob"),
	})
}

func certificate(at, typ, id string, more d) event {
	data := d{"certificate_id": id, "subscription_id": "SUB-1"}
	for k, v := range more {
		data[k] = v
	}
	return ev(at, typ, "K-1", data)
}

func ssl() d { return d{"cert_type": "SSL", "product": "Enterprise SSL"} }

func (w *world) subscriptions(more ...string) string {
	w.t.Helper()
	return strings.TrimPrefix(w.csv("subscriptions", append([]string{"partner", "Dist"}, more...)...), subscriptionsHead)
}

func (w *world) transactions(more ...string) string {
	w.t.Helper()
	return strings.TrimPrefix(w.csv("transactions", append([]string{"partner", "Dist"}, more...)...), transactionsHead)
}

func (w *world) byType(more ...string) string {
	w.t.Helper()
	return strings.TrimPrefix(w.csv("certificate-usage", append([]string{"partner", "Dist", "expand", "customer"}, more...)...), byTypeHead)
}

func TestE1Order(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureE()...)
	w.send(orderedE1())
	w.want("subscriptions", w.subscriptions(), "Kappa,SUB-1,Resell Co,Enterprise SSL,2025-12-31,600.00,2025-01-01,ann@partner.com,2025-01-01,15")
	w.want("transactions", w.transactions("from", "2025-01-01", "to", "2025-01-01"),
		"Kappa,K-1,SUB-1,Resell Co,Enterprise SSL;Secure Email,T-1,Inventory,2025-01-01,15,600.00,Ann")
	w.want("no transactions", w.transactions("from", "2025-01-02", "to", "2025-12-31"), "")
	w.want("usage", w.byType(), "Kappa,K-1,Resell Co,S/MIME,5,5,0\nKappa,K-1,Resell Co,SSL,10,10,0")
	w.want("usage of customers", w.csv("certificate-usage", "partner", "Dist"),
		"Customer,Customer ID,Reseller,Current Inventory,Available,Used\nKappa,K-1,Resell Co,15,15,0")
	w.want("usage of products", w.csv("certificate-usage", "partner", "Dist", "expand", "type"),
		"Customer,Customer ID,Reseller,Certificate Type,Product,Current Inventory,Available,Used\n"+
			"Kappa,K-1,Resell Co,S/MIME,Secure Email,5,5,0\nKappa,K-1,Resell Co,SSL,Enterprise SSL,10,10,0")
}

func TestE2ToE4InventoryAndRenewal(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureE()...)
	w.send(orderedE1(), inventory("2025-07-02", "inventory.changed", "T-2", "4", "100.27"))
	w.want("E2 subscriptions", w.subscriptions(), "Kappa,SUB-1,Resell Co,Enterprise SSL,2025-12-31,700.27,2025-01-01,bob@partner.com,2025-07-02,19")
	w.want("E2 transactions", w.transactions("from", "2025-07-02", "to", "2025-07-02"),
		"Kappa,K-1,SUB-1,Resell Co,Enterprise SSL,T-2,Inventory,2025-07-02,4,100.27,Bob")

	w.send(inventory("2025-11-01", "renewal_inventory.changed", "T-3", "-2", "0"))
	w.want("E3 transactions", w.transactions("from", "2025-11-01"), "Kappa,K-1,SUB-1,Resell Co,Enterprise SSL,T-3,Renewal Inventory,2025-11-01,2,0.00,Bob")
	w.want("E3 usage", w.byType(), "Kappa,K-1,Resell Co,S/MIME,5,5,0\nKappa,K-1,Resell Co,SSL,14,14,0")

	w.send(ev("2026-01-01", "subscription.renewed", "K-1", d{
		"transaction_id": "T-4", "subscription_id": "SUB-1", "new_start": "2026-01-01T00:00:00Z", "new_end": "2027-01-01T00:00:00Z", "cost": "700.00",
	}))
	w.want("E4 transactions", w.transactions("from", "2026-01-01"), "Kappa,K-1,SUB-1,Resell Co,Enterprise SSL;Secure Email,T-4,Renew,2026-01-01,17,700.00,System")
	w.want("E4 subscriptions", w.subscriptions(), "Kappa,SUB-1,Resell Co,Enterprise SSL,2026-12-31,700.00,2025-01-01,System,2026-01-01,17")
	w.want("E4 usage", w.byType(), "Kappa,K-1,Resell Co,S/MIME,5,5,0\nKappa,K-1,Resell Co,SSL,12,12,0")
	w.want("earlier", w.subscriptions("as_of", "2025-07-01T00:00:00Z"), "Kappa,SUB-1,Resell Co,Enterprise SSL,2025-12-31,600.00,2025-01-01,ann@partner.com,2025-01-01,15")

	w.send(ev("2026-02-01", "subscription.cancelled", "K-1", d{"transaction_id": "T-5", "subscription_id": "SUB-1", "cost": "0", "actor": person("Ann")}))
	w.want("E7 leaves at once", w.subscriptions(), "")
	w.want("E7 transactions", w.transactions("from", "2026-02-01"), "Kappa,K-1,SUB-1,Resell Co,Enterprise SSL;Secure Email,T-5,Cancel,2026-02-01,17,0.00,Ann")
	w.want("E7 usage", w.byType(), "")
}

// Certificates are in use from issue to revocation or expiry; a reissue takes the place of what it replaces.
func TestE5Certificates(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureE()...)
	w.send(orderedE1())
	for i := range 4 {
		w.send(certificate("2025-02-01", "certificate.issued", fmt.Sprint("C-", i), ssl()))
	}
	w.send(
		certificate("2025-02-01", "certificate.issued", "M-1", d{"cert_type": "S/MIME", "product": "Secure Email"}),
		certificate("2025-02-02", "certificate.revoked", "C-0", nil),
		certificate("2025-02-03", "certificate.reissued", "C-9", d{"replaces": "C-1"}),
		certificate("2025-02-04", "certificate.revoked", "C-1", nil), // is replaced already
		certificate("2025-02-05", "certificate.expired", "C-2", ssl()),
		certificate("2024-12-31", "certificate.issued", "C-7", ssl()),                                           // before the order
		ev("2025-02-05", "certificate.issued", "K-1", d{"certificate_id": "X-1", "subscription_id": "nowhere"}), // unknown
	)
	w.want("usage", w.byType(), "Kappa,K-1,Resell Co,S/MIME,5,4,1\nKappa,K-1,Resell Co,SSL,10,8,2")
	w.want("does not modify", strings.Join(column(subscriptionsHead+w.subscriptions(), "Last modified date"), " "), "2025-01-01")
	w.want("earlier", w.byType("as_of", "2025-02-01T12:00:00Z"), "Kappa,K-1,Resell Co,S/MIME,5,4,1\nKappa,K-1,Resell Co,SSL,10,6,4")
}

// A reissue that does not say its kind has that of what it replaces, whatever was reissued in between.
func TestE7ReissuedAgain(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureE()...)
	w.send(orderedE1())
	w.send(
		certificate("2025-02-01", "certificate.issued", "C-0", ssl()),
		certificate("2025-02-02", "certificate.reissued", "C-1", d{"replaces": "C-0"}),
		certificate("2025-02-03", "certificate.reissued", "C-2", d{"replaces": "C-1"}),
		certificate("2025-02-04", "certificate.reissued", "C-3", d{"replaces": "C-2"}),
		certificate("2025-02-01", "certificate.issued", "M-1", d{"cert_type": "S/MIME", "product": "Secure Email"}),
		certificate("2025-02-05", "certificate.reissued", "R-1", d{"replaces": "R-2"}), // each says it replaces the other
		certificate("2025-02-06", "certificate.reissued", "R-2", d{"replaces": "R-1"}),
	)
	w.want("one of each is in use, and one whose kind nobody said", w.byType(), "Kappa,K-1,Resell Co,,0,0,1\nKappa,K-1,Resell Co,S/MIME,5,4,1\nKappa,K-1,Resell Co,SSL,10,9,1")
}

// A change that takes away what is in use is rejected; one that was made before the certificates leaves none.
func TestE6InventoryBelowUsed(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureE()...)
	w.send(orderedE1())
	for i := range 8 {
		w.send(certificate("2025-02-01", "certificate.issued", fmt.Sprint("C-", i), ssl()))
	}
	w.send(inventory("2025-03-01", "inventory.changed", "T-2", "-3", "0").named("too-much"))
	w.want("rejected", w.byType(), "Kappa,K-1,Resell Co,S/MIME,5,5,0\nKappa,K-1,Resell Co,SSL,10,2,8")
	w.want("no transaction", w.transactions("from", "2025-03-01"), "")
	w.send(inventory("2025-03-02", "inventory.changed", "T-3", "-2", "0"))
	w.want("as many as are left", w.byType(), "Kappa,K-1,Resell Co,S/MIME,5,5,0\nKappa,K-1,Resell Co,SSL,8,0,8")
	w.send(inventory("2025-01-15", "inventory.changed", "T-4", "-3", "0").recordedAt("2025-03-05"))
	w.want("late: nothing is available", w.byType(), "Kappa,K-1,Resell Co,S/MIME,5,5,0\nKappa,K-1,Resell Co,SSL,7,0,8")
	w.want("decreases are counted without sign", w.transactions("from", "2025-01-15", "to", "2025-01-15"), "Kappa,K-1,SUB-1,Resell Co,Enterprise SSL,T-4,Inventory,2025-01-15,3,0.00,Bob")
}

func TestE8ColumnsAndReach(t *testing.T) {
	w := newWorld(t)
	w.send(fixtureE()...)
	other := orderedE1()
	other.account, other.data["subscription_id"], other.data["transaction_id"] = "K-2", "SUB-2", "T-9"
	w.send(orderedE1(), other)
	w.want("three columns", w.csv("subscriptions", "partner", "Dist", "columns", "Cost,Customer,End"), "Cost,Customer,End\n600.00,Kappa,2025-12-31\n600.00,Lambda,2025-12-31")
	w.want("without reseller", strings.Join(column(w.csv("subscriptions", "partner", "Dist"), "Reseller"), "|"), "Resell Co|")
	w.want("the reseller's own", strings.Join(column(w.csv("subscriptions", "partner", "R-1"), "Customer"), " "), "Kappa")
	w.want("of one customer", strings.Join(column(w.csv("transactions", "partner", "Dist", "customer", "K-2"), "Transaction ID"), " "), "T-9")
	for path, want := range map[string]int{
		"subscriptions?partner=R-1&customer=K-2":                     http.StatusNotFound,
		"subscriptions?partner=R-1&customer=K-1":                     http.StatusOK,
		"subscriptions?partner=nobody":                               http.StatusNotFound,
		"subscriptions":                                              http.StatusBadRequest,
		"subscriptions?partner=Dist&columns=Customer,Surprise":       http.StatusBadRequest,
		"subscriptions?partner=Dist&columns=Customer,Customer":       http.StatusBadRequest,
		"certificate-usage?partner=Dist&expand=all":                  http.StatusBadRequest,
		"certificate-usage?partner=Dist&columns=Product":             http.StatusBadRequest,
		"transactions?partner=Dist&from=2025-02-01&to=2025-01-01":    http.StatusBadRequest,
		"transactions?partner=Dist&from=2025-02-30&to=2025-03-01":    http.StatusBadRequest,
		"certificate-usage?partner=Dist&expand=type&columns=Product": http.StatusOK,
	} {
		if status, answer := w.get("/reports/" + path); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, answer, want)
		}
	}
}
