package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// Ports are where the parts listen, all on loopback. Flag names are in DefaultPorts' order in list.
type Ports struct {
	Ingest, Reporter                            int
	NATS, Monitor                               int
	ClickHouse, ClickHouseHTTP                  int
	IngestAdmin, AggregatorAdmin, ReporterAdmin int
}

// DefaultPorts are those of `up` without flags.
func DefaultPorts() Ports {
	return Ports{
		Ingest: 8080, Reporter: 8081, NATS: 4222, Monitor: 8222, ClickHouse: 9000, ClickHouseHTTP: 8123,
		IngestAdmin: 9101, AggregatorAdmin: 9102, ReporterAdmin: 9103,
	}
}

// Port is one port of Ports, with the flag that sets it.
type Port struct {
	Flag, Help string
	Value      *int
}

// List names every port.
func (p *Ports) List() []Port {
	return []Port{
		{"ingest-port", "port of ingest, where events are posted", &p.Ingest},
		{"reporter-port", "port of the reporter, where numbers are read", &p.Reporter},
		{"nats-port", "port of NATS", &p.NATS},
		{"nats-monitor-port", "port of NATS's monitoring", &p.Monitor},
		{"clickhouse-port", "port of ClickHouse's native protocol", &p.ClickHouse},
		{"clickhouse-http-port", "port of ClickHouse over HTTP", &p.ClickHouseHTTP},
		{"ingest-admin-port", "port of ingest's health and metrics", &p.IngestAdmin},
		{"aggregator-admin-port", "port of the aggregator's health and metrics", &p.AggregatorAdmin},
		{"reporter-admin-port", "port of the reporter's health and metrics", &p.ReporterAdmin},
	}
}

// free replaces every port by one that nobody uses.
func (p *Ports) free() error {
	list := p.List()
	ports, err := localstack.FreePorts(len(list))
	if err != nil {
		return fmt.Errorf("choose ports: %w", err)
	}
	for i, port := range list {
		*port.Value = ports[i]
	}
	return nil
}

// check names every port that is taken or given twice, with the flag that moves it.
func (p *Ports) check(ctx context.Context) error {
	seen := map[int]string{}
	var faults []error
	for _, port := range p.List() {
		if other := seen[*port.Value]; other != "" {
			faults = append(faults, fmt.Errorf("--%s and --%s are both %d", other, port.Flag, *port.Value))
			continue
		}
		seen[*port.Value] = port.Flag
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", loopback(*port.Value))
		if err != nil {
			faults = append(faults, fmt.Errorf("port %d is in use; pass --%s with another, or --ephemeral for free ones", *port.Value, port.Flag))
			continue
		}
		if err := l.Close(); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
