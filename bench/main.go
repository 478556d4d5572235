// Command bench measures what Countinghouse costs: over HTTP from a POST to the ledger (load), from a
// backlog in the log to the tables (drain, beside loops that others write), with duplicates (dedup), and
// on a store of a hundred million events (fill, store, reports). bench/README.md says what each figure means.
//
// It also checks: what was accepted must be in the ledger exactly, every duplicate found. A difference
// is exit 1, whatever the speed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// options are the flags.
type options struct {
	dir         string // of a running `up`; "": start one
	exe         string // countinghouse, to start one
	programs    string // folder of ingest, aggregator and reporter; "": those in exe
	out         string // folder of results
	record      bool
	verbose     bool
	keep        bool
	seconds     int
	connections int
	tenants     int
	accounts    int
	templates   int
	rate        int // events per second in the load phase; 0: as fast as it goes
	fresh       int // seconds of the freshness phase
	profile     string

	store       string // directory of the large store
	population  int    // accounts of each kind that reports are asked of
	events      int64  // of the store, or of the backlog
	eventsGiven bool
	timeGiven   bool // --seconds or BENCH_SECONDS
	weigh       bool
}

// commands by their first argument; without one it is load.
func commands() map[string]func(context.Context, options, io.Writer) error {
	return map[string]func(context.Context, options, io.Writer) error{
		"load": load, "fill": fill, "store": store, "reports": reports, "pages": pages, "pages-store": storePages, "drain": drain, "dedup": dedup, "all": all,
	}
}

func flags(args []string, errs io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(errs)
	f.StringVar(&o.dir, "dir", "", "load, pages: directory of a running `countinghouse up`; without it one is started, ephemeral, and removed")
	f.StringVar(&o.exe, "countinghouse", "bin/countinghouse", "program to start")
	f.StringVar(&o.programs, "programs", "bin", "folder of ingest, aggregator and reporter, as a service manager runs them (make build); empty: the ones that --countinghouse has in itself")
	f.StringVar(&o.out, "out", "bench/results", "folder of latest.json and history.jsonl; empty writes nothing")
	f.BoolVar(&o.record, "record", false, "append this run to history.jsonl")
	f.BoolVar(&o.verbose, "v", false, "also bytes per table and column, and what ClickHouse spent on which statement")
	f.BoolVar(&o.keep, "keep", false, "keep the directory of a stack that was started")
	f.IntVar(&o.seconds, "seconds", secondsFromEnvironment(), "length of the load (BENCH_SECONDS)")
	f.IntVar(&o.connections, "connections", 512, "HTTP connections")
	f.IntVar(&o.tenants, "tenants", 200, "tenants")
	f.IntVar(&o.accounts, "accounts", 50, "accounts per tenant")
	f.IntVar(&o.templates, "templates", 4, "bodies prepared per tenant")
	f.IntVar(&o.rate, "rate", 0, "load, store: events per second, at most; 0 is as fast as it goes, for store 50,000")
	f.IntVar(&o.fresh, "fresh", -1, "load: seconds of the freshness phase at half load; default half of --seconds, 0 leaves it out")
	f.StringVar(&o.profile, "profile", "", "load, drain: folder for profiles of the parts at work: pprof of ours, perf of NATS and ClickHouse")
	f.StringVar(&o.store, "store", defaultStore(), "fill, store, reports, pages-store: directory of the large store")
	f.IntVar(&o.population, "population", 10_000, "reports: accounts of each kind that are put into the store, once, and reported on")
	f.Int64Var(&o.events, "events", 100_000_000, "fill: events of the store; drain, dedup: of a backlog, instead of their own numbers")
	f.BoolVar(&o.weigh, "weigh", false, "fill: weigh the tables of a store again")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.timeGiven = os.Getenv("BENCH_SECONDS") != ""
	f.Visit(func(f *flag.Flag) {
		o.eventsGiven = o.eventsGiven || f.Name == "events"
		o.timeGiven = o.timeGiven || f.Name == "seconds"
	})
	if o.fresh < 0 {
		o.fresh = max(5, o.seconds/2)
	}
	if f.NArg() > 0 || o.seconds < 1 || o.connections < 1 || o.tenants < 1 || o.accounts < 1 || o.templates < 1 || o.population < childrenEach || o.events < chunkEvents {
		return o, errors.New("bench: counts must be positive, and the command comes first; see --help")
	}
	return o, nil
}

const secondsDefault = 30

func secondsFromEnvironment() int {
	n, err := strconv.Atoi(os.Getenv("BENCH_SECONDS"))
	if err != nil || n < 1 {
		return secondsDefault
	}
	return n
}

func main() {
	if code, ran := localstack.RunChild(); ran {
		os.Exit(code)
	}
	command, args := "load", os.Args[1:]
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	if command == peerCommand {
		if err := runPeer(context.Background(), args); err != nil { // it ends with its parent
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	run, known := commands()[command]
	o, err := flags(args, os.Stderr)
	if !known && err == nil {
		err = fmt.Errorf("bench: no command %q", command)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}
