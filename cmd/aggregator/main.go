// Command aggregator moves events from the log into the warehouse; see internal/aggregator.
package main

import (
	"context"
	"os"

	"github.com/countinghouse/countinghouse/internal/aggregator"
	"github.com/countinghouse/countinghouse/internal/config"
)

func main() {
	cmd := config.Service("aggregator", "Move events from the log into the warehouse, each exactly once", aggregator.DefaultConfig(), aggregator.Start)
	os.Exit(config.Run(context.Background(), cmd, os.Stderr))
}
