package report

import (
	"cmp"
	"context"
	"encoding/json"
	"math/big"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Columns of certificate-usage.
const (
	measureInventory = "Current Inventory"
	measureLeft      = "Available"
	measureInUse     = "Used"
)

const howWorld = "the same report of a world that has these events and no others of any subscription"

// ofSubscription lists what was said of the rows' subscriptions, and makes the report again in a world where there are
// no others.
func (e *explanation) ofSubscription(ctx context.Context, rows *fitting) error {
	e.out.How = howWorld
	world, all, err := e.worldOf(ctx, rows.all("Subscription ID"))
	if err != nil {
		return err
	}
	fits, err := e.fitting(world, rowReports()[e.q.Report])
	if err != nil {
		return err
	}
	e.list(all)
	e.out.Evidence, err = fits.sum(e.out.Measure)
	return err
}

// worldOf is a context in which there are no subscriptions but some, and the events that are about these.
func (e *explanation) worldOf(ctx context.Context, subscriptions []string) (context.Context, []Evidence, error) {
	refused := map[Position]bool{}
	for _, u := range e.state.Rulings() {
		refused[Position(u.Position)] = true
	}
	of := func(v *directory.Event) (subscription string, told bool) {
		domain, _, _ := strings.Cut(v.Type, ".")
		if domain != "subscription" && domain != "inventory" && domain != "renewal_inventory" {
			return "", false
		}
		var data struct {
			SubscriptionID string `json:"subscription_id"`
		}
		if json.Unmarshal([]byte(v.Data), &data) != nil || refused[Position(v.Position)] {
			return "", true
		}
		return data.SubscriptionID, true
	}
	only := func(v *directory.Event) bool {
		subscription, told := of(v)
		return !told || slices.Contains(subscriptions, subscription)
	}
	all, voided := []Evidence{}, map[[2]string]bool{}
	listed := context.WithValue(ctx, onlyEvents{}, func(v *directory.Event) bool {
		subscription, told := of(v)
		if !told || !slices.Contains(subscriptions, subscription) {
			return false
		}
		row := Evidence{
			Source: v.Source, ID: v.ID, Type: v.Type, Account: v.Account, At: Instant(v.At), RecordedAt: Instant(v.RecordedAt), Sign: 1, Status: Stored, About: subscription,
			Position: Position(v.Position),
		}
		if v.Void {
			row.Sign, voided[[2]string{v.Source, v.ID}] = -1, true
		}
		all = append(all, row)
		return false
	})
	if _, err := e.directoryAt(listed, e.q.Tenant, e.cut); err != nil {
		return nil, nil, err
	}
	for i := range all {
		if voided[[2]string{all[i].Source, all[i].ID}] {
			all[i].Status = Voided
		}
	}
	slices.SortFunc(all, compareEvidence)
	return context.WithValue(ctx, onlyEvents{}, only), all, nil
}

func compareEvidence(a, b Evidence) int {
	return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.Source, b.Source), strings.Compare(a.ID, b.ID), cmp.Compare(b.Sign, a.Sign))
}

// unfolded says how far certificate-usage is expanded for the row that is meant.
func (e *explanation) unfolded() string {
	if _, ok := e.q.Values["product"]; ok {
		return "type"
	}
	if _, ok := e.q.Values["type"]; ok {
		return "customer"
	}
	return e.q.Values["expand"]
}

// ofInventory lists what was said of a customer's active subscriptions, and makes the report again in a world where
// there are no others.
func (e *explanation) ofInventory(ctx context.Context, rows *fitting) error {
	e.out.How = howWorld + ": what is bought of active subscriptions"
	all, inventory, err := e.inventory(ctx, rows)
	e.list(all)
	e.out.Evidence = inventory
	return err
}

func (e *explanation) inventory(ctx context.Context, rows *fitting) (all []Evidence, inventory string, err error) {
	var active []string
	for _, id := range e.state.Subscriptions() {
		if s, ok := e.state.Subscription(id, e.cut.AsOf); ok && s.Account == rows.cell("Customer ID") && s.Active(e.cut.AsOf) {
			active = append(active, id)
		}
	}
	world, all, err := e.worldOf(ctx, active)
	if err != nil {
		return nil, "", err
	}
	fits, err := e.fitting(world, rowReports()[e.q.Report])
	if err != nil {
		return nil, "", err
	}
	inventory, err = fits.sum(measureInventory)
	return all, cmp.Or(inventory, "0"), err
}

// ofCertificates lists the certificates in use, each with its last issue or reissue, and counts them.
func (e *explanation) ofCertificates(ctx context.Context, rows *fitting) error {
	e.out.How = "the number of certificates that were issued or reissued, and neither revoked, expired nor replaced since; the events are the last of each"
	all, err := e.inUse(ctx, rows)
	e.list(all)
	e.out.Evidence = big.NewInt(int64(len(all))).String()
	return err
}

// ofStock lists what makes the inventory, and the certificates in use, which are taken from it.
func (e *explanation) ofStock(ctx context.Context, rows *fitting) error {
	e.out.How = "the inventory, " + howWorld + ", less the certificates in use, each with its last issue; never below 0"
	all, inventory, err := e.inventory(ctx, rows)
	if err != nil {
		return err
	}
	used, err := e.inUse(ctx, rows)
	if err != nil {
		return err
	}
	for i := range used {
		used[i].Counts = "-1"
	}
	left, err := parseAmount(inventory)
	if err != nil {
		return err
	}
	left.Sub(left, new(big.Int).Mul(big.NewInt(int64(len(used))), unit()))
	if left.Sign() < 0 {
		left = new(big.Int)
	}
	e.list(append(all, used...))
	e.out.Evidence = formatAmount(left)
	return nil
}

// certificatesListed are the certificates of some subscriptions with the event that put each into use, and those
// whose kind they may have inherited.
const certificatesListed = `
SELECT CAST(type, 'String') AS kind, CAST(source, 'String'), id, account, toUnixTimestamp64Milli(at) AS happened, toUnixTimestamp64Milli(recorded_at), shard, seq, idx,
    JSONExtractString(data, 'certificate_id') AS certificate, JSONExtractString(data, 'subscription_id') AS subscription, JSONExtractString(data, 'cert_type'),
    JSONExtractString(data, 'product'), JSONExtractString(data, 'replaces')
FROM {{db}}.directory_events
WHERE tenant = {tenant:String} AND type IN {types:Array(String)} AND at <= fromUnixTimestamp64Milli({at:Int64}, 'UTC') AND sign = 1 AND ` + inCut + `
    AND (source, id) NOT IN (SELECT source, id FROM {{db}}.directory_events WHERE tenant = {tenant:String} AND type IN {types:Array(String)} AND sign = -1 AND ` + inCut + `)
    AND transform(subscription, {subscriptions:Array(String)}, {ordered:Array(Int64)}, toInt64(9223372036854775807)) <= happened
ORDER BY happened, source, JSONExtractInt(data, 'source_seq'), id
LIMIT {limit:UInt64}`

// explainedCertificatesMax bounds the events about certificates that are gone through for a number of them.
const explainedCertificatesMax = 1_000_000

// certificateStory is a certificate as the events so far left it.
type certificateStory struct {
	Evidence
	inUse                  bool
	subscription, replaced string
	kind                   directory.StockKey
}

// inUse goes through what was said of certificates, event by event, and lists those of the row that are in use.
func (e *explanation) inUse(ctx context.Context, rows *fitting) ([]Evidence, error) {
	certificates, err := e.certificateStories(ctx)
	if err != nil {
		return nil, err
	}
	listed := []Evidence{}
	for _, c := range certificates {
		s, ok := e.state.Subscription(c.subscription, e.cut.AsOf)
		if !c.inUse || !ok || s.Account != rows.cell("Customer ID") {
			continue
		}
		kind, seen := c.kind, map[*certificateStory]bool{c: true}
		for next := certificates[c.replaced]; next != nil && !seen[next]; next = certificates[next.replaced] {
			seen[next] = true
			kind = directory.Inherit(kind, next.kind)
		}
		kind = directory.KindOf(kind, s.Items)
		certType, typed := e.q.Values["type"]
		product, produced := e.q.Values["product"]
		if typed && kind.CertType != certType || produced && kind.Product != product {
			continue
		}
		listed = append(listed, c.Evidence)
	}
	slices.SortFunc(listed, compareEvidence)
	return listed, nil
}

// certificateStories are all certificates of the tenant by their ids, as of the cut.
func (e *explanation) certificateStories(ctx context.Context) (map[string]*certificateStory, error) {
	subscriptions, ordered := []string{}, []int64{}
	for _, id := range e.state.Subscriptions() {
		if _, ok := e.state.Subscription(id, e.cut.AsOf); ok {
			subscriptions, ordered = append(subscriptions, id), append(ordered, e.state.FirstOrder(id))
		}
	}
	params := e.cut.params(map[string]any{
		"tenant": e.q.Tenant, "types": directory.CertificateTypes(), "at": e.cut.AsOf, "subscriptions": subscriptions, "ordered": ordered,
		"limit": uint64(explainedCertificatesMax + 1),
	})
	certificates, n := map[string]*certificateStory{}, 0
	of := func(id string) *certificateStory {
		if certificates[id] == nil {
			certificates[id] = &certificateStory{}
		}
		return certificates[id]
	}
	err := e.query(ctx, "list the certificates", certificatesListed, params, func(row warehouse.Rows) error {
		v := Evidence{Sign: 1, Status: Stored, Quantity: "1", Counts: "1"}
		var subscription, replaces string
		var kind directory.StockKey
		err := row.Scan(&v.Type, &v.Source, &v.ID, &v.Account, (*int64)(&v.At), (*int64)(&v.RecordedAt), &v.Shard, &v.Seq, &v.Idx, &v.About, &subscription, &kind.CertType,
			&kind.Product, &replaces)
		n++
		c := of(v.About)
		if c.inUse = v.Type == "certificate.issued" || v.Type == "certificate.reissued"; !c.inUse {
			return err
		}
		c.Evidence, c.subscription = v, subscription
		c.kind.CertType, c.kind.Product = cmp.Or(kind.CertType, c.kind.CertType), cmp.Or(kind.Product, c.kind.Product)
		if replaces != "" && replaces != v.About {
			c.replaced = replaces
			if v.Type == "certificate.reissued" {
				of(replaces).inUse = false
			}
		}
		return err
	})
	if n > explainedCertificatesMax {
		return nil, wrong("customer", "there are too many certificates to go through them one by one")
	}
	return certificates, err
}
