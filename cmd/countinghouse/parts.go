package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/countinghouse/countinghouse/internal/aggregator"
	"github.com/countinghouse/countinghouse/internal/config"
	"github.com/countinghouse/countinghouse/internal/ingest"
	"github.com/countinghouse/countinghouse/internal/reporter"
)

// service is one of the three programs: what `up` starts as a hidden command of this binary, and whose
// configuration `config` checks.
type service struct {
	name    string
	command func() *cobra.Command
	load    func(file string) (cfg any, err error)
}

func services() []service {
	return []service{
		{"ingest", func() *cobra.Command {
			return config.Service("ingest", "the front door", ingest.DefaultConfig(), ingest.Start)
		}, loader("ingest", ingest.DefaultConfig)},
		{"aggregator", func() *cobra.Command {
			return config.Service("aggregator", "log to warehouse", aggregator.DefaultConfig(), aggregator.Start)
		}, loader("aggregator", aggregator.DefaultConfig)},
		{"reporter", func() *cobra.Command {
			return config.Service("reporter", "the numbers", reporter.DefaultConfig(), reporter.Start)
		}, loader("reporter", reporter.DefaultConfig)},
	}
}

// parts are the services as hidden commands: __ingest, __aggregator, __reporter.
func parts() []*cobra.Command {
	var out []*cobra.Command
	for _, s := range services() {
		c := s.command()
		c.Use, c.Hidden = "__"+s.name, true
		out = append(out, c)
	}
	return out
}

// loader reads the configuration a service would have: file and environment over defaults.
func loader[T any](name string, def func() T) func(string) (any, error) {
	return func(file string) (any, error) {
		cfg := def()
		flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
		config.Bind(flags, &cfg)
		if file != "" {
			if err := flags.Set("config", file); err != nil {
				return nil, err
			}
		}
		err := config.Load(flags, name, &cfg)
		return &cfg, err
	}
}
