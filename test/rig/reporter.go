package rig

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/localstack"
)

// StartReporter adds the service that answers questions, and returns when it does. Flags are more of its own.
func (r *Rig) StartReporter(flags ...string) (part *Part, url string) {
	r.t.Helper()
	ports, err := localstack.FreePorts(2)
	if err == nil {
		part, err = r.service("reporter", ports[1], true, slices.Concat(r.clickHouseFlags(nil), []string{
			"--nats", r.natsURL(nil), "--nats-partitions", fmt.Sprint(r.opts.Partitions), "--listen", loopback(ports[0]),
		}, flags)...)
	}
	if err != nil {
		r.t.Fatalf("reporter: %v", err)
	}
	r.Reporter = part
	return part, "http://" + loopback(ports[0])
}

// Key makes a further key of a tenant, who may be new.
func (r *Rig) Key(tenant string, scopes ...string) (token string) {
	r.t.Helper()
	err := r.control(func(_ *eventlog.Log, store *control.Store) error {
		return r.retry("make a key", func(ctx context.Context) (err error) {
			_, token, err = store.Create(ctx, tenant, "rig", scopes, time.Time{})
			return err
		})
	})
	if err != nil {
		r.t.Fatalf("key: %v", err)
	}
	return token
}
