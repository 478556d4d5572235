package rig

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/warehouse"
	"github.com/countinghouse/countinghouse/test/oracle"
)

const (
	// Rows is the database of the servers' own tables, where there are several: Database is then Distributed over them.
	Rows    = "countinghouse_rows"
	cluster = "countinghouse"
)

// startClickHouses starts the engines; armed, the next life of one is traced by strace.
func (r *Rig) startClickHouses(engine localstack.Engine) error {
	for i := range r.opts.ClickHouses {
		name := "clickhouse"
		if i > 0 {
			name = fmt.Sprintf("clickhouse-%d", i)
		}
		dir := filepath.Join(r.dir, name)
		if i == 0 {
			dir = cmp.Or(r.opts.ClickHouseDir, dir)
		}
		part, err := r.startClickHouse(engine, name, dir, r.ports[2+2*i], r.ports[3+2*i])
		if err != nil {
			return err
		}
		r.ClickHouses = append(r.ClickHouses, part)
	}
	r.ClickHouse = r.ClickHouses[0]
	return nil
}

func (r *Rig) startClickHouse(engine localstack.Engine, name, dir string, tcp, http int) (*Part, error) {
	plain, err := localstack.ClickHouseConfig{Engine: engine, Dir: dir, TCPPort: tcp, HTTPPort: http}.Part()
	if err != nil {
		return nil, err
	}
	if err := r.writeCluster(dir); err != nil {
		return nil, err
	}
	proc, err := localstack.StartPart(r.ctx, plain)
	if err != nil {
		return nil, err
	}
	var kept *Part
	kept = r.keep(name, plain.LogFile, proc, func(ctx context.Context) (*localstack.Process, error) {
		part := plain
		if options := kept.takeArms(); options != nil {
			if part, err = traced(part, options, r.traceFile()); err != nil {
				return nil, err
			}
		}
		return localstack.StartPart(ctx, part)
	})
	return kept, nil
}

// writeCluster tells an engine of all servers, where there are several.
func (r *Rig) writeCluster(dir string) error {
	if r.opts.ClickHouses == 1 {
		return nil
	}
	var shards strings.Builder
	for i := range r.opts.ClickHouses {
		fmt.Fprintf(&shards, "<shard><replica><host>127.0.0.1</host><port>%d</port></replica></shard>", r.ports[2+2*i])
	}
	text := "<clickhouse><remote_servers><" + cluster + ">" + shards.String() + "</" + cluster + "></remote_servers></clickhouse>\n"
	if err := os.MkdirAll(filepath.Join(dir, "config.d"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.d", "servers.xml"), []byte(text), 0o644)
}

// clickHouseConfig is how the product reaches the servers, by way of what stands before them.
func (r *Rig) clickHouseConfig(via func(string) string) warehouse.Config {
	dsn := func(i int, database string) string {
		return "clickhouse://" + by(via, loopback(r.ports[2+2*i])) + "/" + database
	}
	c := warehouse.Config{DSN: dsn(0, Database)}
	if r.opts.ClickHouses > 1 {
		c.Cluster = cluster
		for i := range r.opts.ClickHouses {
			c.Servers = append(c.Servers, dsn(i, Rows))
		}
	}
	return c
}

func (r *Rig) clickHouseFlags(via func(string) string) []string {
	c := r.clickHouseConfig(via)
	flags := []string{"--clickhouse", c.DSN}
	if len(c.Servers) > 0 {
		flags = append(flags, "--clickhouse-servers", strings.Join(c.Servers, ","), "--clickhouse-cluster", c.Cluster)
	}
	return flags
}

// Server is the address of one of several servers, for questions about its own tables.
func (r *Rig) Server(i int) oracle.ClickHouse {
	return oracle.ClickHouse("http://" + loopback(r.ports[3+2*i]))
}

// DSN is where everything can be read.
func (r *Rig) DSN() string { return r.clickHouseConfig(nil).DSN }

// ToolFlags tell the command line tool where NATS and ClickHouse are.
func (r *Rig) ToolFlags() []string {
	return append(r.clickHouseFlags(nil), "--nats", r.natsURL(nil))
}
