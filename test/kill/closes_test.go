package kill_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// closes are two reporters that close the same months all the time, by request of several and by themselves, while late
// events keep coming.
type closes struct {
	*fight.Fight
	parts []*rig.Part
	urls  []string
	keys  map[string]string // by tenant

	mu      sync.Mutex
	said    map[string]string // the hash by tenant, month and version, as closes were answered
	answers map[int]int       // by status
	wrong   string
}

// F29: months are closed by two reporters at once while late events come, and the reporters die at every step of a
// close, at random, or stand still past their lease and then go on. Every version is one, answered with one hash; nobody
// sees a number missing; and the first version with all adjustments is what was sent.
func TestF29Closes(t *testing.T) {
	c := &closes{Fight: fight.Begin(t, "F29c", rig.Options{}), keys: map[string]string{}, said: map[string]string{}, answers: map[int]int{}}
	for range 2 {
		part, url := c.Rig.StartReporter("--months-close-day", "0", "--months-restate-delay", "200ms", "--months-retry-delay", "500ms")
		c.parts, c.urls = append(c.parts, part), append(c.urls, url)
	}
	for _, tenant := range rig.Tenants() {
		c.keys[tenant] = c.Rig.Key(tenant, "months:close")
		c.CloseMonths(c.urls[0], c.keys[tenant])
	}
	ctx, stop := context.WithCancel(t.Context())
	var closers sync.WaitGroup
	for i := range c.parts {
		for tenant := range c.keys {
			closers.Go(func() { c.closing(ctx, i, tenant) })
		}
	}
	points := fight.CrashPoints(t, "months")
	for i := range fight.Rounds(len(points), 10*len(points)) {
		at := fmt.Sprintf("%s:%d", points[i%len(points)], 1+c.Rnd.IntN(3))
		c.Dies(c.parts[c.Rnd.IntN(2)], "at "+at, faultpoint.Variable+"="+at)
	}
	for range fight.Rounds(1, 20) {
		c.Moment()
		c.still(c.Rnd.IntN(2))
	}
	for range fight.Rounds(1, 30) {
		c.Moment()
		part := c.parts[c.Rnd.IntN(2)]
		back := part.Back()
		part.Kill()
		c.Await(part, back)
	}
	stop()
	closers.Wait()
	c.Check() // the load has ended, and everything is counted
	c.settled()
	c.proved()
	kills := 0
	for _, part := range c.parts {
		kills += part.Kills()
	}
	c.Note += fmt.Sprintf(" reporters-killed=%d answers=%d closed=%d", kills, c.answers[http.StatusOK], len(c.said))
	c.End()
}

// closing asks one reporter for closes, for ever.
func (c *closes) closing(ctx context.Context, reporter int, tenant string) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, month := range fight.EndedMonths() {
			if answer, err := fight.Close(ctx, c.urls[reporter], c.keys[tenant], month); err == nil {
				c.heard(tenant, month, answer)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// heard remembers what a version was said to be: the same, whoever says it and whenever.
func (c *closes) heard(tenant, month string, answer fight.Closed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[answer.Status]++
	if answer.Status != http.StatusOK {
		return
	}
	key := fmt.Sprintf("%s %s %d", tenant, month, answer.Version)
	if before, known := c.said[key]; known && before != answer.SHA256 {
		c.wrong = fmt.Sprintf("%s was said to be %s, and then %s", key, before, answer.SHA256)
	}
	c.said[key] = answer.SHA256
}

// versions counts those that are known.
func (c *closes) versions(ctx context.Context) int64 {
	n, err := c.Rig.Warehouse().Numbers(ctx, "SELECT uniqExact(tenant, month, version) FROM "+rig.Database+".month_versions")
	if err != nil {
		return 0
	}
	return n[0]
}

// still lets a reporter stand still for longer than its lease lives, in the middle of whatever it does, until the other
// has made versions; then it goes on from that very instruction.
func (c *closes) still(reporter int) {
	c.T.Helper()
	c.parts[reporter].Freeze()
	before := c.versions(c.T.Context())
	c.While(leaseLife) // the length of the fault: by then the lease is another's
	c.Rig.Until("the other reporter makes versions", rig.SettleWait, func(ctx context.Context) bool { return c.versions(ctx) > before+2 })
	c.parts[reporter].Thaw()
	month, answered, last := fight.EndedMonths()[0], map[string]bool{}, ""
	defer func() {
		if c.T.Failed() {
			c.T.Logf("of the tenants %v were answered; the last answer: %s", answered, last)
		}
	}()
	// Each tenant once, not all of them in a row: everybody else goes on asking for the same closes.
	c.Rig.Until("the one that stood still answers", 2*rig.SettleWait, func(ctx context.Context) bool {
		for tenant, key := range c.keys {
			if answered[tenant] {
				continue
			}
			answer, err := fight.Close(ctx, c.urls[reporter], key, month)
			last = fmt.Sprintf("%d %.200s, %v", answer.Status, answer.Text, err)
			if err == nil && answer.Status == http.StatusOK {
				c.heard(tenant, month, answer)
				answered[tenant] = true
			}
		}
		return len(answered) == len(c.keys)
	})
}

// leaseLife is longer than a lease of closes lives that nobody renews (5 s).
const leaseLife = 6 * time.Second

// settled closes once more behind the last event, until nothing changes.
func (c *closes) settled() {
	c.T.Helper()
	for tenant, key := range c.keys {
		for _, month := range fight.EndedMonths() {
			last := -1
			c.Rig.Until("nothing changes "+month+" of "+tenant, rig.SettleWait, func(ctx context.Context) bool {
				answer, err := fight.Close(ctx, c.urls[0], key, month)
				if err != nil || answer.Status != http.StatusOK {
					return false
				}
				c.heard(tenant, month, answer)
				same := answer.Version == last
				last = answer.Version
				return same
			})
		}
	}
}

// The months, as the rows of the log say them: the oracle has found these to be what was sent.
const rawMonths = `SELECT tenant, month, account, meter, sum(q) AS quantity FROM
(
	SELECT tenant, formatDateTime(at, '%Y-%m') AS month, account, meter, toDecimal256(quantity, 9) * sign AS q FROM {db}.events WHERE meter != '' AND pieces < 2
	UNION ALL
	SELECT tenant, formatDateTime(at, '%Y-%m') AS month, account, meter, toDecimal256(quantity, 9) * sign AS q FROM {db}.pieces
)
WHERE month IN (SELECT month FROM {db}.month_versions) GROUP BY ALL`

// What has to be empty.
var proofs = map[string]string{
	"a version of two closes, or a number left out": `SELECT tenant, month, uniqExact(version, close_id), max(version) FROM {db}.month_versions
		GROUP BY tenant, month HAVING uniqExact(version, close_id) != max(version) OR uniqExact(version) != max(version)`,
	"rows that are not those of their version": `SELECT v.tenant, v.month, v.version, v.rows, r.n FROM {db}.month_versions AS v
		LEFT JOIN (SELECT close_id, count() AS n FROM {db}.month_rows GROUP BY close_id) AS r ON v.close_id = r.close_id WHERE v.rows != r.n`,
	"a newest version that is not what was sent": `SELECT tenant, month, account, meter, sum(a), sum(b) FROM
		(
			SELECT tenant, month, account, meter, quantity AS a, toDecimal256(0, 9) AS b FROM (` + rawMonths + `)
			UNION ALL
			SELECT tenant, month, account, meter, toDecimal256(0, 9), quantity FROM usage_api.usage_monthly_versions_v1
			WHERE (tenant, month, version) IN (SELECT tenant, month, max(version) FROM {db}.month_versions GROUP BY tenant, month)
		) GROUP BY tenant, month, account, meter HAVING sum(a) != sum(b)`,
	"a first version that is not with its adjustments what was sent": `SELECT tenant, month, account, meter, sum(a), sum(b) FROM
		(
			SELECT tenant, month, account, meter, quantity AS a, toDecimal256(0, 9) AS b FROM (` + rawMonths + `)
			UNION ALL
			SELECT tenant, month, account, meter, toDecimal256(0, 9), quantity FROM usage_api.usage_monthly_versions_v1 WHERE version = 1
			UNION ALL
			SELECT tenant, usage_month, account, meter, toDecimal256(0, 9), delta FROM usage_api.month_adjustments_v1 WHERE measure = 'quantity'
		) GROUP BY tenant, month, account, meter HAVING sum(a) != sum(b)`,
}

// proved asks the tables.
func (c *closes) proved() {
	c.T.Helper()
	ch := c.Rig.Warehouse()
	for what, sql := range proofs {
		// What was recorded in the log's last millisecond is in no cut until the log's clock is past it: a version
		// follows it by itself.
		said := false
		c.Rig.Until("there is not: "+what, rig.SettleWait, func(ctx context.Context) bool {
			rows, err := ch.Rows(ctx, strings.ReplaceAll(sql, "{db}", rig.Database)+" LIMIT 5")
			if len(rows) > 0 && !said {
				said = true
				c.T.Logf("F29c seed=%d: %s: %v", c.Seed, what, rows)
			}
			return err == nil && len(rows) == 0
		})
	}
	rows, err := ch.Rows(c.T.Context(), "SELECT DISTINCT tenant, month, version, sha256 FROM "+rig.Database+".month_versions")
	if err != nil {
		c.T.Fatal(err)
	}
	for _, r := range rows {
		key := strings.Join(r[:3], " ")
		if said, known := c.said[key]; known && said != r[3] {
			c.wrong = fmt.Sprintf("%s was said to be %s, and is %s", key, said, r[3])
		}
	}
	if c.wrong != "" {
		c.T.Errorf("F29c seed=%d: %s", c.Seed, c.wrong)
	}
	late, err := ch.Numbers(c.T.Context(), "SELECT count(), countIf(version > 1) FROM "+rig.Database+".month_versions")
	if err != nil || late[1] == 0 {
		c.T.Fatalf("versions, of them later than the first: %v, %v: the test tests nothing", late, err)
	}
	c.Note += fmt.Sprintf(" versions=%d", len(rows))
}
