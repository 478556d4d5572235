package shards_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os/exec"
	"strings"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/oracle"
	"github.com/countinghouse/countinghouse/test/rig"
)

// questions asks everybody who reads, by way of the Distributed tables: the rows are where they belong, the
// audit finds no difference and counts what the oracle counted, the reporter answers each tenant with the
// sum of that tenant's rows, and the doctor finds nothing.
func (b *both) questions(want oracle.Result) {
	b.T.Helper()
	b.placed()
	_, address := b.Rig.StartReporter("--months-close-day", "0", "--months-restate-delay", "1h")
	b.audit(address, want)
	stored := 0
	for _, tenant := range tenants() {
		b.usage(address, tenant)
		stored += b.ledger(address, tenant)
	}
	b.months(address)
	if stored != want.Stored {
		b.T.Errorf("the ledgers of all tenants say %d stored, the oracle %d", stored, want.Stored)
	}
	b.tool("migrate", "--status")
	out, err := exec.CommandContext(b.T.Context(), fight.Program(), "migrate", "--clickhouse", b.Rig.DSN()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "clickhouse.servers") {
		b.T.Errorf("migrate of the reader alone: %v, %s", err, out)
	}
	if out := b.tool("doctor"); !strings.Contains(out, fmt.Sprintf("over %d servers", servers)) {
		b.T.Errorf("the doctor does not know of the servers:\n%s", out)
	}
}

// tool runs the command line tool, which must end well.
func (b *both) tool(args ...string) string {
	b.T.Helper()
	cmd := exec.CommandContext(b.T.Context(), fight.Program(), append(args, b.Rig.ToolFlags()...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.T.Errorf("countinghouse %s: %v\n%s", args[0], err, out)
	}
	return string(out)
}

func (b *both) audit(address string, want oracle.Result) {
	b.T.Helper()
	cmd := exec.CommandContext(b.T.Context(), fight.Program(), "audit", "-o", "json", "--reporter-url", address, "--token", b.Rig.Key("default", "admin", "usage:read"))
	var why strings.Builder
	cmd.Stderr = &why
	out, err := cmd.Output()
	if err != nil {
		b.T.Errorf("audit: %v\n%s%s", err, why.String(), b.Rig.Logs())
		return
	}
	var c struct {
		OK      bool `json:"ok"`
		Tenants []struct {
			Stored int `json:"stored"`
			Voided int `json:"voided"`
		} `json:"tenants"`
		Shards []struct{} `json:"shards"`
	}
	if err := json.Unmarshal(out, &c); err != nil {
		b.T.Fatalf("audit: %v\n%s", err, out)
	}
	stored, voided := 0, 0
	for _, t := range c.Tenants {
		stored, voided = stored+t.Stored, voided+t.Voided
	}
	if !c.OK || stored != want.Stored || voided != want.Voided || len(c.Shards) != partitions {
		b.T.Errorf("the certificate says ok %t, stored %d, voided %d, %d shards; the oracle %d, %d, %d", c.OK, stored, voided, len(c.Shards), want.Stored, want.Voided, partitions)
	}
	b.Note += fmt.Sprintf(" audit=ok shards=%d", len(c.Shards))
}

// ledger is what the reporter says was stored of a tenant; every partition must be known to it.
func (b *both) ledger(address, tenant string) (stored int) {
	b.T.Helper()
	token := b.Rig.Key(tenant, "usage:read")
	var ledger struct {
		Rows []struct {
			Stored   int  `json:"stored"`
			Balanced bool `json:"balanced"`
		} `json:"rows"`
	}
	b.get(address, "/ledger", token, &ledger)
	for _, r := range ledger.Rows {
		stored += r.Stored
		if !r.Balanced {
			b.T.Errorf("the ledger of %s does not balance", tenant)
		}
	}
	var fresh struct {
		Rows []struct{} `json:"rows"`
	}
	b.get(address, "/freshness", token, &fresh)
	if len(fresh.Rows) != partitions {
		b.T.Errorf("freshness of %d partitions, want %d", len(fresh.Rows), partitions)
	}
	return stored
}

// usage compares the months that the reporter answers with the raw rows of the tenant, on its own server.
func (b *both) usage(address, tenant string) {
	b.T.Helper()
	token := b.Rig.Key(tenant, "usage:read")
	var months struct {
		Rows []struct {
			Month string `json:"month"`
		} `json:"rows"`
	}
	b.get(address, "/months", token, &months)
	have := map[string]*big.Rat{}
	for _, m := range months.Rows {
		for cursor := ""; ; {
			var page struct {
				Rows []struct{ Meter, Quantity string } `json:"rows"`
				Next *string                            `json:"next"`
			}
			b.get(address, "/months/"+m.Month+"/usage?cursor="+url.QueryEscape(cursor), token, &page)
			for _, r := range page.Rows {
				add(b, have, r.Meter, r.Quantity)
			}
			if page.Next == nil {
				break
			}
			cursor = *page.Next
		}
	}
	want := map[string]*big.Rat{}
	for i := range servers {
		rows, err := b.Rig.Server(i).Rows(b.T.Context(), "SELECT meter, toString(sum(toDecimal256(quantity, 9) * sign)) FROM "+rig.Rows+".events WHERE meter != '' AND tenant = '"+tenant+"' GROUP BY meter")
		if err != nil {
			b.T.Fatal(err)
		}
		for _, r := range rows {
			add(b, want, r[0], r[1])
		}
	}
	if len(want) == 0 {
		b.T.Errorf("tenant %s has no usage: nothing is compared", tenant)
	}
	for meter, w := range want {
		if h := have[meter]; h == nil || h.Cmp(w) != 0 {
			b.T.Errorf("%s %s: the reporter says %v, the rows %s", tenant, meter, h, w.FloatString(9))
		}
	}
}

func add(b *both, sums map[string]*big.Rat, meter, quantity string) {
	b.T.Helper()
	n, ok := new(big.Rat).SetString(quantity)
	if !ok {
		b.T.Fatalf("%s: quantity %q", meter, quantity)
	}
	if sums[meter] == nil {
		sums[meter] = new(big.Rat)
	}
	sums[meter].Add(sums[meter], n)
}

func (b *both) get(address, path, token string, into any) {
	b.T.Helper()
	req, err := http.NewRequestWithContext(b.T.Context(), http.MethodGet, address+"/api/v1"+path, nil)
	if err != nil {
		b.T.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.T.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil || res.StatusCode != http.StatusOK {
		b.T.Fatalf("GET %s: %s: %v\n%s", path, res.Status, err, b.Rig.Logs())
	}
}
