package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/doctor"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/stack"
)

func (t *tool) doctor() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at a stack and say what is wrong and what to do",
		Long: `Checks NATS, the log's durability and limits, ClickHouse and its tables, keys, clocks, disk, the
separation of tenants and the services. One line a check: ok, warn or fail, and what to do. Changes
nothing. Exits 1 if any check fails.`,
		Example: `  countinghouse doctor
  countinghouse doctor --nats nats://nats1:4222 --clickhouse clickhouse://ch1:9000/countinghouse`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := t.format()
			if err != nil {
				return err
			}
			e, err := t.where.endpoints(needNATS, needClickHouse)
			if err != nil {
				return err
			}
			findings, err := t.examine(cmd.Context(), e)
			if err != nil {
				return err
			}
			return t.findings(format, findings)
		},
	}
	return t.listingFlag(t.serverFlags(cmd))
}

func (t *tool) examine(ctx context.Context, e stack.Endpoints) ([]doctor.Finding, error) {
	target := doctor.Target{Admin: e.Admin, Now: time.Now}
	var early []doctor.Finding
	if l, err := openLog(ctx, e); err != nil {
		early = append(early, doctor.Finding{Check: "nats", Level: doctor.Fail, Detail: oneLine(err), Do: "start NATS, or correct --nats"})
	} else {
		defer l.Close()
		target.Log = l
		if target.Keys, err = control.Open(ctx, l.Conn(), zap.NewNop()); err != nil {
			return nil, err
		}
		defer target.Keys.Close()
	}
	servers, err := t.where.warehouses(ctx, e)
	if err != nil {
		return nil, err
	}
	defer func() { _ = servers.Close() }() // nothing is pending
	target.Warehouse, target.Servers = servers.Reader(), servers
	if e.Analyst.User != "" {
		target.Tenant, target.Dir = e.Analyst.Tenant, t.where.dir // a stack of `up`: its disk is ours
		target.AnalystURL = e.ClickHouseHTTP + "/?" + url.Values{"user": {e.Analyst.User}, "password": {e.Analyst.Password}}.Encode()
	}
	return append(early, doctor.Examine(ctx, &target)...), nil
}

func (t *tool) findings(format listing.Format, findings []doctor.Finding) error {
	rows := listing.Rows{Columns: []string{"check", "result", "detail", "do"}}
	failed := 0
	for _, f := range findings {
		rows.Add(f.Check, string(f.Level), f.Detail, f.Do)
		if f.Level == doctor.Fail {
			failed++
		}
	}
	if format == listing.Table { // one line a check; what to do under it, where it can be read
		for _, f := range findings {
			fmt.Fprintf(t.out, "%-5s %-20s %s\n", f.Level, f.Check, f.Detail)
			if f.Do != "" {
				fmt.Fprintf(t.out, "      %-20s do: %s\n", "", f.Do)
			}
		}
	} else if err := rows.Print(t.out, format); err != nil {
		return err
	}
	if failed > 0 {
		return no()
	}
	return nil
}
