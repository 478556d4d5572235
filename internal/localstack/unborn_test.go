package localstack_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// TestUnbornStreams: a server that was killed while it made streams starts again as if it had not begun with them, and
// whatever holds a message stays.
func TestUnbornStreams(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, err := localstack.StartNATS(localstack.NATSConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	js, _ := logStream(t, n.URL(), 1)
	if _, err := js.Publish(patient(t), "usage.log.0.acme.events", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	n.Stop()
	streams := filepath.Join(dir, "jetstream", "$G", "streams")
	for name, files := range map[string][]string{
		"NOTHING":     nil,
		"BLOCK":       {"msgs/1.blk"},
		"DESCRIPTION": {"msgs/1.blk", "meta.inf", "meta.sum.tmp"},
	} {
		for _, file := range append(files, "obs/none") {
			path := filepath.Join(streams, name, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			text := ""
			if filepath.Base(path)[0] == 'm' {
				text = "{}"
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(streams)
	if err != nil || len(entries) != 1 || entries[0].Name() != "USAGE_0" {
		t.Errorf("streams on disk: %v, %v; want USAGE_0 alone", entries, err)
	}
	js, _ = logStream(t, n.URL(), 1)
	if m, err := last(t, js); err != nil || string(m.Data) != "kept" {
		t.Errorf("its message: %v, %v", m, err)
	}
	n.Stop()
	if err := os.Remove(filepath.Join(streams, "USAGE_0", "meta.sum")); err != nil { // damage, not a beginning
		t.Fatal(err)
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	if blocks, err := filepath.Glob(filepath.Join(streams, "USAGE_0", "msgs", "*.blk")); err != nil || len(blocks) == 0 {
		t.Errorf("the damaged stream's messages: %v, %v", blocks, err)
	}
}

func last(t *testing.T, js jetstream.JetStream) (*jetstream.RawStreamMsg, error) {
	t.Helper()
	s, err := js.Stream(patient(t), "USAGE_0")
	if err != nil {
		return nil, err
	}
	return s.GetMsg(patient(t), 1)
}
