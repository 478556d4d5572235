package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/stack"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

const defaultDir = ".countinghouse"

// connection says which stack a command talks to: flags, else environment, else DIR/endpoints.json.
type connection struct {
	dir, url, reporterURL, token string
	nats, clickhouse             string
	servers                      []string // of ClickHouse, where there are several
	cluster                      string
	monitors                     []string // monitoring URLs of the NATS servers
}

func (t *tool) dirFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.where.dir, "dir", cmp.Or(os.Getenv("COUNTINGHOUSE_DIR"), defaultDir), "`folder` of a running countinghouse up")
	_ = cmd.MarkFlagDirname("dir")
}

// clientFlags are those of commands that speak HTTP.
func (t *tool) clientFlags(cmd *cobra.Command) *cobra.Command {
	t.dirFlag(cmd)
	cmd.Flags().StringVar(&t.where.url, "url", "", "URL of ingest (COUNTINGHOUSE_URL)")
	cmd.Flags().StringVar(&t.where.reporterURL, "reporter-url", "", "URL of the reporter (COUNTINGHOUSE_REPORTER_URL)")
	cmd.Flags().StringVar(&t.where.token, "token", "", "API key (COUNTINGHOUSE_TOKEN)")
	return cmd
}

// serverFlags are those of commands that speak to NATS and ClickHouse themselves.
func (t *tool) serverFlags(cmd *cobra.Command) *cobra.Command {
	t.dirFlag(cmd)
	cmd.Flags().StringVar(&t.where.nats, "nats", "", "URL of NATS, nats://host:4222 (COUNTINGHOUSE_NATS__URL)")
	cmd.Flags().StringSliceVar(&t.where.monitors, "nats-monitor", listOf("COUNTINGHOUSE_NATS__MONITOR_URLS"), "monitoring URLs of the NATS servers: say whether they sync before they acknowledge (COUNTINGHOUSE_NATS__MONITOR_URLS)")
	cmd.Flags().StringVar(&t.where.clickhouse, "clickhouse", "", "DSN of ClickHouse, clickhouse://host:9000/countinghouse (COUNTINGHOUSE_CLICKHOUSE__DSN)")
	cmd.Flags().StringSliceVar(&t.where.servers, "clickhouse-servers", listOf("COUNTINGHOUSE_CLICKHOUSE__SERVERS"), "DSNs of the servers of ClickHouse, where there are several (COUNTINGHOUSE_CLICKHOUSE__SERVERS)")
	cmd.Flags().StringVar(&t.where.cluster, "clickhouse-cluster", os.Getenv("COUNTINGHOUSE_CLICKHOUSE__CLUSTER"), "their name in remote_servers (COUNTINGHOUSE_CLICKHOUSE__CLUSTER)")
	return cmd
}

// listOf is a variable that holds several values, separated by commas.
func listOf(variable string) []string {
	if list := os.Getenv(variable); list != "" {
		return strings.Split(list, ",")
	}
	return nil
}

// endpoints is what is known of the stack. need names what the command cannot do without.
func (c *connection) endpoints(need ...func(*stack.Endpoints) (value *string, flag string)) (stack.Endpoints, error) {
	var e stack.Endpoints
	file, err := stack.LoadEndpoints(c.dir)
	if err == nil {
		e = file
	} else if !errors.Is(err, stack.ErrNotRunning) {
		return e, err
	}
	override := func(dst *string, flag, env string) {
		*dst = cmp.Or(flag, os.Getenv(env), *dst)
	}
	override(&e.Ingest, c.url, "COUNTINGHOUSE_URL")
	override(&e.Reporter, c.reporterURL, "COUNTINGHOUSE_REPORTER_URL")
	override(&e.AdminToken, c.token, "COUNTINGHOUSE_TOKEN")
	override(&e.NATS, c.nats, "COUNTINGHOUSE_NATS__URL")
	override(&e.ClickHouse, c.clickhouse, "COUNTINGHOUSE_CLICKHOUSE__DSN")
	if len(c.monitors) > 0 {
		e.Monitor = strings.Join(c.monitors, ",")
	}
	for _, n := range need {
		if value, flag := n(&e); *value == "" {
			return e, fmt.Errorf("%w in %s, and no --%s is given; start one with `countinghouse up`", stack.ErrNotRunning, c.dir, flag)
		}
	}
	return e, nil
}

// warehouses prepares the servers of ClickHouse.
func (c *connection) warehouses(ctx context.Context, e stack.Endpoints) (*warehouse.Servers, error) {
	cfg := warehouse.Config{DSN: e.ClickHouse, Servers: c.servers, Cluster: c.cluster}
	if faults := cfg.Validate(); len(faults) > 0 {
		return nil, usageError("--clickhouse: %s", strings.TrimPrefix(errors.Join(faults...).Error(), "dsn: ")) // the key of a file
	}
	s, err := warehouse.OpenServers(ctx, cfg, zap.NewNop())
	if err != nil {
		return nil, usageError("--clickhouse: %w", err)
	}
	return s, nil
}

// listening reports whether somebody listens at one of the addresses.
func listening(ctx context.Context, urls string) bool {
	for one := range strings.SplitSeq(urls, ",") {
		if one = strings.TrimSpace(one); !strings.Contains(one, "://") {
			one = "nats://" + one
		}
		u, err := url.Parse(one)
		if err != nil {
			continue
		}
		conn, err := (&net.Dialer{Timeout: connectWait}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "4222")))
		if err == nil {
			_ = conn.Close() // nothing was said
			return true
		}
	}
	return false
}

func needIngest(e *stack.Endpoints) (*string, string)     { return &e.Ingest, "url" }
func needReporter(e *stack.Endpoints) (*string, string)   { return &e.Reporter, "reporter-url" }
func needNATS(e *stack.Endpoints) (*string, string)       { return &e.NATS, "nats" }
func needClickHouse(e *stack.Endpoints) (*string, string) { return &e.ClickHouse, "clickhouse" }

// client speaks to the services. When a send has to wait for longer than a moment, stderr says so.
func (t *tool) client(e stack.Endpoints) (*client.Client, error) {
	c, err := client.New(client.Config{
		Ingest: e.Ingest, Reporter: e.Reporter, Token: e.AdminToken,
		OnRetry: func(cause error, wait time.Duration) {
			if wait >= time.Second {
				fmt.Fprintf(t.err, "countinghouse: waiting %s for ingest, nothing is lost: %v\n", wait.Round(100*time.Millisecond), cause)
			}
		},
	})
	if err != nil {
		return nil, usageError("%w", err)
	}
	return c, nil
}
