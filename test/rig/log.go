package rig

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// Ports of the servers of a cluster: each has an address of its own.
const (
	clusterClients = 4222
	clusterMonitor = 8222
	clusterRoutes  = 6222

	reconnectWait = 50 * time.Millisecond
	askWait       = 5 * time.Second
)

// startLog starts the NATS server, or the servers of a cluster, one in each host of opts.NATSHosts. Armed,
// the next life of one is traced by strace.
func (r *Rig) startLog() error {
	dir := cmp.Or(r.opts.NATSDir, filepath.Join(r.dir, "nats"))
	if len(r.opts.NATSHosts) == 0 {
		r.servers = make([]*natsServer, 1)
		return r.startServer(0, "nats", localstack.NATSConfig{Dir: dir, LazySync: r.opts.LazySync, Partitions: r.opts.Partitions}, nil)
	}
	var routes []string
	for _, h := range r.opts.NATSHosts {
		routes = append(routes, fmt.Sprintf("%s:%d", h.Address, clusterRoutes))
	}
	r.servers = make([]*natsServer, len(r.opts.NATSHosts))
	failed := make([]error, len(r.opts.NATSHosts))
	var starting sync.WaitGroup
	for i, h := range r.opts.NATSHosts { // at the same time: none is healthy before there are two
		cfg := localstack.NATSConfig{
			Dir: filepath.Join(dir, fmt.Sprint(i)), ServerName: fmt.Sprintf("nats-%d", i),
			Host: h.Address, MonitorHost: h.Address, Port: clusterClients, MonitorPort: clusterMonitor, LazySync: r.opts.LazySync,
			Partitions: r.opts.Partitions,
		}
		if len(routes) > 1 {
			cfg.ClusterPort, cfg.Routes = clusterRoutes, routes
		}
		starting.Go(func() { failed[i] = r.startServer(i, cfg.ServerName, cfg, h) })
	}
	starting.Wait()
	return errors.Join(failed...)
}

func (r *Rig) startServer(i int, name string, cfg localstack.NATSConfig, in *Host) error {
	var kept *Part
	trace := filepath.Join(r.dir, name+".strace")
	cfg.Wrap = func(part localstack.Part) (_ localstack.Part, err error) {
		if kept != nil {
			if options := kept.takeArms(); options != nil {
				if part, err = watched(part, options, trace); err != nil {
					return part, err
				}
			}
		}
		if in == nil {
			return part, nil
		}
		return in.within(part)
	}
	server, err := localstack.StartNATSChild(r.ctx, cfg)
	if err != nil {
		return err
	}
	kept = r.keep(name, filepath.Join(cfg.Dir, "nats.log"), server.Process(), func(ctx context.Context) (*localstack.Process, error) {
		err := server.Restart(ctx)
		return server.Process(), err
	})
	r.servers[i] = &natsServer{url: server.URL(), monitor: server.MonitorURL(), part: kept, dir: cfg.Dir, trace: trace}
	return nil
}

// natsServer is one server of the log.
type natsServer struct {
	url, monitor string
	part         *Part // nil: somebody else keeps it running
	dir          string
	trace        string
}

// Servers are the parts of the log: one, or those of the cluster.
func (r *Rig) Servers() []*Part {
	var parts []*Part
	for _, s := range r.servers {
		if s != nil && s.part != nil {
			parts = append(parts, s.part)
		}
	}
	return parts
}

// NATSTrace is what strace wrote of a NATS server that was armed.
func (r *Rig) NATSTrace() string { return r.servers[0].trace }

// NATSFiles is where a NATS server keeps a stream of the log.
func (r *Rig) NATSFiles(stream string) string {
	return filepath.Join(r.servers[0].dir, "jetstream", "$G", "streams", stream, "msgs")
}

// natsURL names every server, by way of what stands before it.
func (r *Rig) natsURL(via func(string) string) string {
	var urls []string
	for _, s := range r.servers {
		urls = append(urls, "nats://"+by(via, strings.TrimPrefix(s.url, "nats://")))
	}
	return strings.Join(urls, ",")
}

func (r *Rig) monitorURLs() string {
	var urls []string
	for _, s := range r.servers {
		urls = append(urls, s.monitor)
	}
	return strings.Join(urls, ",")
}

func (r *Rig) replicas() string {
	if len(r.servers) > 1 {
		return "3"
	}
	return "1"
}

// Logged is the last sequence of the log, those of all partitions together: of one server as its own monitoring tells it, of a cluster as
// the leader does, because the others may not know yet.
func (r *Rig) Logged(ctx context.Context) (uint64, error) {
	if len(r.servers) > 1 {
		info, err := r.Stream(ctx, "USAGE_0")
		if err != nil {
			return 0, err
		}
		return info.State.LastSeq, nil
	}
	body, err := Fetch(ctx, r.servers[0].monitor+"/jsz?streams=true")
	if err != nil {
		return 0, err
	}
	defer body.Close()
	var jsz struct {
		Accounts []struct {
			Streams []struct {
				Name  string `json:"name"`
				State struct {
					Last uint64 `json:"last_seq"`
				} `json:"state"`
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	if err := json.NewDecoder(body).Decode(&jsz); err != nil {
		return 0, fmt.Errorf("read /jsz: %w", err)
	}
	var last uint64
	streams := 0
	for _, a := range jsz.Accounts {
		for _, s := range a.Streams {
			if strings.HasPrefix(s.Name, "USAGE_") {
				last += s.State.Last
				streams++
			}
		}
	}
	if streams != r.opts.Partitions {
		return 0, fmt.Errorf("%d streams of the log in /jsz, want %d", streams, r.opts.Partitions)
	}
	return last, nil
}

// Stream asks the leader of a stream about it. Who is not answered asks another server the next time: the one it is
// connected to may have lost the others.
func (r *Rig) Stream(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	if r.asker == nil {
		nc, err := nats.Connect(r.natsURL(nil), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait), nats.Timeout(askWait))
		if err != nil {
			return nil, fmt.Errorf("ask the log: %w", err)
		}
		r.t.Cleanup(nc.Close)
		if r.asker, err = jetstream.New(nc); err != nil {
			return nil, fmt.Errorf("ask the log: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	stream, err := r.asker.Stream(ctx, name)
	if err != nil {
		r.asker.Conn().Close()
		r.asker = nil
		return nil, fmt.Errorf("ask the log: %w", err)
	}
	return stream.CachedInfo(), nil
}

// Leader is the number of the server that leads a stream; -1 while none does.
func (r *Rig) Leader(ctx context.Context, stream string) int {
	info, err := r.Stream(ctx, stream)
	if err != nil || info.Cluster == nil {
		return -1
	}
	for i, s := range r.servers {
		if s.part.Name == info.Cluster.Leader {
			return i
		}
	}
	return -1
}

// Lead makes a server the leader of a stream.
func (r *Rig) Lead(stream string, server int) {
	r.t.Helper()
	want, err := json.Marshal(map[string]any{"placement": map[string]string{"preferred": r.servers[server].part.Name}})
	if err != nil {
		r.t.Fatal(err)
	}
	asked := time.Now().Add(-askWait)
	r.Until(fmt.Sprintf("%s leads %s", r.servers[server].part.Name, stream), SettleWait, func(ctx context.Context) bool {
		if r.Leader(ctx, stream) == server {
			return true
		}
		if r.asker != nil && time.Since(asked) > askWait { // it may refuse, while the server is not up to date
			asked = time.Now()
			_ = r.asker.Conn().Publish("$JS.API.STREAM.LEADER.STEPDOWN."+stream, want)
		}
		return false
	})
}

// InStep waits until every server has all of a stream. Before that, who takes one away takes two: a server that
// was away and has not caught up votes for nobody.
func (r *Rig) InStep(stream string) {
	r.t.Helper()
	r.Until("every server has all of "+stream, SettleWait, func(ctx context.Context) bool {
		info, err := r.Stream(ctx, stream)
		if err != nil || info.Cluster == nil || info.Cluster.Leader == "" {
			return false
		}
		return !slices.ContainsFunc(info.Cluster.Replicas, func(p *jetstream.PeerInfo) bool { return !p.Current })
	})
}

// ServerOf is the number of the server that a client is connected to; -1 while it is to none.
func (r *Rig) ServerOf(ctx context.Context, client string) int {
	for i, s := range r.servers {
		body, err := Fetch(ctx, s.monitor+"/connz")
		if err != nil {
			continue
		}
		var connz struct {
			Connections []struct {
				Name string `json:"name"`
			} `json:"connections"`
		}
		err = json.NewDecoder(body).Decode(&connz)
		_ = body.Close() // read
		if err == nil && slices.ContainsFunc(connz.Connections, func(c struct {
			Name string `json:"name"`
		}) bool {
			return c.Name == client
		}) {
			return i
		}
	}
	return -1
}
