package kill_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/oracle"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	family  = "family" // the tenant whose accounts are renamed, all of them at a time
	members = 12
)

// renames sends, again and again, one request that gives every account of a tenant the name of its round.
type renames struct {
	*fight.Fight
	round atomic.Int64 // that was acknowledged last
	token string
	began time.Time
}

// F02: an aggregator dies between any two of the tables in which the folded directory is kept, at random, or stands
// still past its lease and then writes what it had folded. Whoever asks sees one fold, whole, and never an older one
// after a newer one; in the end it is the last.
func TestF02Directory(t *testing.T) {
	n := &renames{Fight: fight.Begin(t, "F02d", rig.Options{Aggregators: []string{"one", "two"}, LeaseTTL: 3 * time.Second}), began: time.Now().Add(-time.Hour).Truncate(time.Second)}
	n.token = n.Rig.Key(family, "events:write")
	ctx, stop := context.WithCancel(t.Context())
	sent, seen := make(chan error, 1), make(chan error, 1)
	go func() { sent <- n.sending(ctx) }()
	go func() { seen <- n.watching(ctx) }()
	points := fight.CrashPoints(t, "register")
	for i := range fight.Rounds(2, 40) {
		_, owner := n.Owner()
		at := fmt.Sprintf("%s:%d", points[i%len(points)], 1+n.Rnd.IntN(6)) // of six tables, in its first round
		t.Logf("dies at %s", at)
		n.dies(owner, at)
	}
	for range fight.Rounds(1, 20) {
		n.Moment()
		owner, part := n.Owner()
		part.Freeze()
		n.Rig.Until("the other aggregator owns the partition", rig.SettleWait, func(ctx context.Context) bool {
			now := n.Rig.Owner(ctx)
			return now != "" && now != owner
		})
		n.shown(n.round.Load())
		part.Thaw()
	}
	n.KillAtRandom(fight.Rounds(1, 20), func() *rig.Part { return n.Rig.Aggregators[n.Rnd.IntN(2)] })
	stop()
	if err := <-sent; err != nil {
		t.Fatalf("F02d seed=%d: %v", n.Seed, err)
	}
	last := n.round.Load()
	n.shown(last)
	if err := <-seen; err != nil {
		t.Errorf("F02d seed=%d: %v", n.Seed, err)
	}
	n.Note = fmt.Sprintf(" rounds=%d", last)
	n.End()
}

// dies arms the owner of the partition. Another may be the owner of its next life, and then it does not reach the
// point: both are armed.
func (n *renames) dies(owner *rig.Part, at string) {
	n.T.Helper()
	before := map[*rig.Part]int{}
	for _, a := range n.Rig.Aggregators {
		if a != owner {
			before[a] = a.Doom(faultpoint.Variable + "=" + at)
		}
	}
	before[owner] = owner.Doom(faultpoint.Variable + "=" + at)
	n.Rig.Until("an aggregator dies at "+at, rig.SettleWait, func(context.Context) bool {
		return slices.ContainsFunc(n.Rig.Aggregators, func(a *rig.Part) bool { return a.Dooms() > before[a] })
	})
}

// sending goes on until ctx ends; the last request is answered.
func (n *renames) sending(ctx context.Context) error {
	for round := int64(1); ctx.Err() == nil; round++ {
		var items []oracle.Item
		var docs []string
		at := n.began.Add(time.Duration(round) * time.Second / 4)
		for i := range members {
			name := fmt.Sprintf("%d m%d", round, i) // names differ within a tree
			typ, data := "account.renamed", fmt.Sprintf(`{"name":%q}`, name)
			if round == 1 {
				typ, data = "account.created", fmt.Sprintf(`{"name":%q,"kind":"provider"}`, name)
				if i > 0 {
					data = fmt.Sprintf(`{"name":%q,"kind":"provider","parent_account_id":"m%d"}`, name, (i-1)/3)
				}
			}
			e := &oracle.Event{Tenant: family, Source: "/family", ID: fmt.Sprintf("%d-%d", round, i), Type: typ, Account: fmt.Sprintf("m%d", i), At: at.UnixMilli()}
			items = append(items, oracle.Item{Kind: oracle.Original, Event: e})
			docs = append(docs, fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":%q,"subject":%q,"time":%q,"data":%s}`,
				e.ID, e.Source, e.Type, e.Account, at.UTC().Format("2006-01-02T15:04:05.000Z"), data))
		}
		body := []byte("[" + strings.Join(docs, ",") + "]")
		for acked := false; !acked; {
			n.Load.Oracle().Sending(items)
			status, err := n.post(body)
			switch {
			case status == http.StatusAccepted:
				n.Load.Oracle().Acked(items)
				acked = true
			case err == nil && status < http.StatusInternalServerError:
				return fmt.Errorf("round %d was answered %d", round, status)
			}
		}
		n.round.Store(round)
		select {
		case <-ctx.Done():
		case <-time.After(150 * time.Millisecond): // a producer's own pace
		}
	}
	return nil
}

func (n *renames) post(body []byte) (status int, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.T.Context()), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.Rig.URL(), bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header = http.Header{"Content-Type": {"application/cloudevents-batch+json"}, "Authorization": {"Bearer " + n.token}}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

// watching asks what everybody sees, all the time.
func (n *renames) watching(ctx context.Context) error {
	newest, tick := int64(0), time.NewTicker(200*time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		round, text, err := n.fold(ctx)
		switch {
		case err != nil: // it is asked again
		case round < 0:
			return fmt.Errorf("seen behind round %d: %s", newest, text)
		case round < newest:
			return fmt.Errorf("round %d was seen, and then round %d", newest, round)
		default:
			newest = round
		}
	}
}

// fold is the round that the tables show: 0 before the first, negative where they show anything but one.
func (n *renames) fold(ctx context.Context) (round int64, text string, err error) {
	rows, err := n.Rig.Warehouse().Rows(ctx, "SELECT splitByChar(' ', name)[1] AS round, count() FROM usage_api.accounts_v1 WHERE tenant = '"+family+"' GROUP BY round ORDER BY round")
	if err != nil || len(rows) == 0 {
		return 0, "", err
	}
	text = fmt.Sprint(rows)
	round, err = strconv.ParseInt(rows[0][0], 10, 64)
	if err != nil || len(rows) != 1 || rows[0][1] != strconv.Itoa(members) {
		return -1, text, nil //nolint:nilerr // a name that is none of ours is what this looks for
	}
	return round, text, nil
}

// shown waits until the tables show a round, or a later one.
func (n *renames) shown(round int64) {
	n.T.Helper()
	last := ""
	defer func() {
		if n.T.Failed() {
			n.T.Logf("of round %d is shown: %s", round, last)
		}
	}()
	// A fold is followed by nine times its length of rest: on a machine at its limit that is a minute.
	n.Rig.Until(fmt.Sprintf("round %d is shown", round), 2*rig.SettleWait, func(ctx context.Context) bool {
		now, text, err := n.fold(ctx)
		last = fmt.Sprint(now, text, err)
		return err == nil && now >= round
	})
}
