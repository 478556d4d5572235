package aggregator

import (
	"context"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// TestLeaseLostOnAFullDisk: a partition is given up while its filter cannot be saved. The filter is a
// cache; the other partitions of this aggregator must go on.
func TestLeaseLostOnAFullDisk(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	wh, err := warehouse.Open(t.Context(), warehouse.DefaultConfig(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = wh.Close() }()
	log, err := eventlog.Dial(eventlog.DefaultConfig(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &partition{log: log, cfg: Config{Dir: file}, warehouse: wh, zap: zap.NewNop(), filter: newFilter(64)}
	p.filter.add(1)
	lost, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.own(lost, 1); err != nil {
		t.Errorf("giving the partition up ends the service: %v", err)
	}
}
