package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/telemetry"
)

func (t *tool) version() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			format, err := t.format()
			if err != nil {
				return err
			}
			v := telemetry.BuildVersion("countinghouse")
			if format == listing.JSON {
				return listing.Document(t.out, v)
			}
			if format == listing.CSV {
				rows := listing.Rows{Columns: []string{"version", "revision", "modified", "go"}}
				rows.Add(v.Version, v.Revision, fmt.Sprint(v.Modified), v.Go)
				return rows.Print(t.out, format)
			}
			fmt.Fprintf(t.out, "countinghouse %s", v.Version)
			if v.Revision != "" {
				fmt.Fprintf(t.out, " (%.12s", v.Revision)
				if v.Modified {
					fmt.Fprint(t.out, ", modified")
				}
				fmt.Fprint(t.out, ")")
			}
			fmt.Fprintf(t.out, ", %s\n", v.Go)
			return nil
		},
	}
	return t.listingFlag(cmd)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
