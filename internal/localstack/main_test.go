package localstack_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// Besides the parts of localstack itself this test binary can be started as:
const (
	childParent   = "__test-parent"   // starts an engine and NATS below a directory, then waits to be killed
	childService  = "__test-service"  // waits for SIGTERM
	childStubborn = "__test-stubborn" // ignores SIGTERM
	childBroken   = "__test-broken"   // exits 3 at once
	argSays       = "running"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case childParent:
			os.Exit(parent(os.Args[2]))
		case childService:
			stop := make(chan os.Signal, 1)
			signal.Notify(stop, syscall.SIGTERM)
			fmt.Println(argSays)
			<-stop
			os.Exit(0)
		case childStubborn:
			signal.Ignore(syscall.SIGTERM)
			fmt.Println(argSays)
			select {}
		case childBroken:
			fmt.Println("no such thing as a good day")
			os.Exit(3)
		}
	}
	localstack.Main(m)
}

// parent starts both servers, writes their process ids to standard output, and waits.
func parent(dir string) int {
	ctx := context.Background()
	engine, err := localstack.EnsureEngine(ctx, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ch, err := localstack.StartClickHouse(ctx, localstack.ClickHouseConfig{Engine: engine, Dir: dir + "/clickhouse"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	nats, err := localstack.StartNATSChild(ctx, localstack.NATSConfig{Dir: dir + "/nats"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(strconv.Itoa(ch.PID()) + " " + strconv.Itoa(nats.PID()))
	<-ch.Process().Done()
	return 1
}
