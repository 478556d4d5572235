package deploy_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/test/rig"
)

// natsFromFile starts the NATS server of deploy/nats on free ports, with a store of the test's own, and
// says its URL and that of its monitoring.
func natsFromFile(t *testing.T) (url, monitor string) {
	t.Helper()
	opts, err := server.ProcessConfigFile(filepath.Join(top, "deploy", "nats", "nats-server.conf"))
	if err != nil {
		t.Fatal(err)
	}
	ports, err := localstack.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	opts.Port, opts.HTTPPort, opts.StoreDir, opts.NoSigs, opts.NoLog = ports[0], ports[1], t.TempDir(), true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(rig.SettleWait) {
		t.Fatal("the NATS server of deploy/nats is not ready")
	}
	return s.ClientURL(), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
}

// startIngest runs the ingest service until the test ends, and returns once it is ready.
func startIngest(t *testing.T, tool, nats, monitor string) {
	t.Helper()
	ports, err := localstack.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	admin := fmt.Sprintf("127.0.0.1:%d", ports[1])
	p, err := localstack.StartPart(t.Context(), localstack.Part{
		Name: "ingest", Exe: tool, Ready: func(ctx context.Context) error { return rig.Get(ctx, "http://"+admin+"/readyz") },
		LogFile: filepath.Join(t.TempDir(), "ingest.log"), // its end is part of an error
		Args:    []string{"__ingest", "--listen", fmt.Sprintf("127.0.0.1:%d", ports[0]), "--admin-listen", admin, "--nats", nats, "--nats-monitor-urls", monitor, "--nats-max-bytes", "64MiB"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(localstack.StopGrace) }) // what is tested has been seen
}
