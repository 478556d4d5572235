package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// StartIngest adds another ingest, and returns when it takes events. Flags are more of its own.
func (r *Rig) StartIngest(flags ...string) (part *Part, url string) {
	r.t.Helper()
	ports, err := localstack.FreePorts(2)
	if err == nil {
		part, err = r.service("ingest", ports[1], true, slices.Concat(r.logFlags(), []string{
			"--nats", r.natsURL(nil), "--listen", loopback(ports[0]),
		}, flags)...)
	}
	if err != nil {
		r.t.Fatalf("ingest: %v", err)
	}
	part.Name = "ingest-" + fmt.Sprint(ports[1])
	return part, "http://" + loopback(ports[0])
}

// Front has producers send to another address than ingest's own: that of a load balancer.
func (r *Rig) Front(url string) { r.front = url }

// Admin is the address of a program's admin port.
func (p *Part) Admin() string { return "http://" + p.admin }

// Ready reports whether a program says that it is.
func (p *Part) Ready(ctx context.Context) bool { return Get(ctx, p.Admin()+"/readyz") == nil }

// migrateAllButLast leaves a database as the version before this one does: it stops at the first statement of
// the last file. A file is recorded only after all of its statements.
func migrateAllButLast(ctx context.Context, w *warehouse.Servers) error {
	all, err := w.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	last := all[len(all)-1].Name
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = w.Migrate(ctx, func(p warehouse.MigrationProgress) {
		if p.Name == last {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("stop before %s: %w", last, err)
	}
	return nil
}

// Stamp copies a program under another version: the one it says it was built from, and nothing else, is another. It answers
// the version, which is as long as the old one: zeros fill it up.
func Stamp(program, to, version string) (string, error) {
	text, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	const mark = "mod\tgithub.com/countinghouse/countinghouse\t"
	begin := bytes.Index(text, []byte(mark))
	if begin < 0 {
		return "", fmt.Errorf("%s does not say which version it is", program)
	}
	begin += len(mark)
	was := text[begin : begin+bytes.IndexAny(text[begin:], "\t\n")]
	if len(version) > len(was) {
		return "", fmt.Errorf("no room for version %s in place of %s", version, was)
	}
	version += strings.Repeat("0", len(was)-len(version))
	copy(was, version)
	return version, os.WriteFile(to, text, 0o700)
}
