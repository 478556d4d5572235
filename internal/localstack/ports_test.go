package localstack_test

import (
	"sync"
	"testing"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// TestPortsInTurn: stacks that choose at the same time and listen later do not get the same port. A test's
// second `up` once found the ClickHouse of another one on its port, and waited for its own NATS for ever.
func TestPortsInTurn(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	given := map[int]bool{}
	var choosing sync.WaitGroup
	for range 40 {
		choosing.Go(func() {
			ports, err := localstack.FreePorts(9)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, p := range ports {
				if given[p] {
					t.Errorf("port %d was given twice", p)
				}
				given[p] = true
			}
		})
	}
	choosing.Wait()
	if len(given) != 360 {
		t.Errorf("%d ports of 360", len(given))
	}
}
