package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

func (t *tool) migrate() *cobra.Command {
	var status bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the tables of ClickHouse to the schema of this program",
		Long: `Applies the migrations that the database does not have. Every statement can be repeated, so a run
killed anywhere is finished by the next. "up" does this by itself; use it before a new version of the
services is started against a ClickHouse of your own. Where rows are spread over several servers
(--clickhouse-servers), each is brought to the schema, and then the tables of --clickhouse over them.

With --status nothing is changed; exits 1 if a migration is missing or was edited.`,
		Example: `  countinghouse migrate --clickhouse clickhouse://ch1:9000/countinghouse
  countinghouse migrate --status`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := t.format(); err != nil {
				return err
			}
			w, err := t.openWarehouses(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = w.Close() }() // nothing is pending
			if !status {
				if err := w.Migrate(cmd.Context(), func(p warehouse.MigrationProgress) {
					if p.Statement == 1 {
						fmt.Fprintf(t.err, "applying %s (%d statements)\n", p.Name, p.Count)
					}
				}); err != nil {
					return err
				}
			}
			return t.migrations(cmd.Context(), w)
		},
	}
	cmd.Flags().BoolVar(&status, "status", false, "only say which migrations the database has")
	return t.listingFlag(t.serverFlags(cmd))
}

func (t *tool) migrations(ctx context.Context, w *warehouse.Servers) error {
	all, err := w.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	rows := listing.Rows{Columns: []string{"migration", "state", "applied_at"}}
	complete := true
	for _, m := range all {
		state, at := "applied", rfc3339(m.AppliedAt)
		switch {
		case m.Landed == "":
			state, at, complete = "missing", "", false
		case !m.Applied():
			state, complete = "edited", false
		}
		rows.Add(m.Name, state, at)
	}
	if err := t.print(&rows); err != nil {
		return err
	}
	if !complete {
		return no()
	}
	return nil
}

// openWarehouses are servers that answer.
func (t *tool) openWarehouses(ctx context.Context) (*warehouse.Servers, error) {
	e, err := t.where.endpoints(needClickHouse)
	if err != nil {
		return nil, err
	}
	servers, err := t.where.warehouses(ctx, e)
	if err != nil {
		return nil, err
	}
	for _, w := range servers.All() {
		if err := w.Ping(ctx); err != nil {
			_ = servers.Close() // it never opened
			return nil, errors.Join(fmt.Errorf("ClickHouse %w", client.ErrUnreachable), err)
		}
	}
	return servers, nil
}
