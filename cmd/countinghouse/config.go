package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/config"
)

func (t *tool) config() *cobra.Command {
	cmd := group(&cobra.Command{Use: "config", Short: "Check or print the configuration of the services"})
	cmd.AddCommand(t.configCheck(), t.configPrint())
	return cmd
}

func (t *tool) configCheck() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check [ingest|aggregator|reporter]...",
		Short: "Say every fault of a configuration; exits 78 if there is one",
		Long: `Reads the file and the environment as the services would, and says every fault at once, with the place
it comes from. Without a name all three services are checked.`,
		Example: `  countinghouse config check --config /etc/countinghouse.yaml
  countinghouse config check ingest`,
		ValidArgs: []string{"ingest", "aggregator", "reporter"},
		Args:      onlyServices,
		RunE: func(_ *cobra.Command, args []string) error {
			bad := false
			for _, s := range services() {
				if len(args) > 0 && !slices.Contains(args, s.name) {
					continue
				}
				_, err := s.load(file)
				var faults *config.Faults
				switch {
				case err == nil:
					fmt.Fprintf(t.out, "%s: ok\n", s.name)
				case errors.As(err, &faults):
					bad = true
					for _, f := range faults.List {
						fmt.Fprintf(t.err, "countinghouse: %s: %s: %s\n", s.name, f.Where, f.Detail)
					}
				default:
					return err
				}
			}
			if bad {
				return &config.ExitError{Code: config.ExitConfig, Err: errSilent}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML file with settings")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

func (t *tool) configPrint() *cobra.Command {
	var file string
	var redacted bool
	cmd := &cobra.Command{
		Use:   "print [ingest|aggregator|reporter]...",
		Short: "Print the settings a service would run with, as YAML with comments",
		Example: `  countinghouse config print --redacted
  countinghouse config print ingest --config /etc/countinghouse.yaml`,
		ValidArgs: []string{"ingest", "aggregator", "reporter"},
		Args:      onlyServices,
		RunE: func(_ *cobra.Command, args []string) error {
			for _, s := range services() {
				if len(args) > 0 && !slices.Contains(args, s.name) {
					continue
				}
				cfg, err := s.load(file)
				if err != nil {
					return err
				}
				if err := config.Print(t.out, s.name, cfg, redacted); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML file with settings")
	cmd.Flags().BoolVar(&redacted, "redacted", false, "leave secrets out, for a bug report")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}
