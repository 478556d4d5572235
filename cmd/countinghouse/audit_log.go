package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/listing"
)

// verifyLog is `countinghouse audit verify-log`.
func (t *tool) verifyLog() *cobra.Command {
	var tenant, head string
	cmd := &cobra.Command{
		Use:   "verify-log",
		Short: "Prove that nothing in the audit log was changed or taken out",
		Long: `Walks the audit log of what operators and keys did. Each entry holds the SHA-256 of the one before, so an
entry that was changed or taken out breaks the chain there; and each change of the control state has its
entry. Prints the number of entries and the SHA-256 of the last one: noted down, --head proves later that
nothing was cut off behind it. Exits 1 and names the first broken link.`,
		Example: `  countinghouse audit verify-log
  countinghouse audit verify-log --tenant acme -o json`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if head != "" && tenant == "" {
				return usageError("--head is of one log: say which with --tenant")
			}
			return t.withControl(cmd.Context(), func(store *control.Store) error {
				proofs, err := store.VerifyLog(cmd.Context(), tenant, head)
				if err != nil {
					return err
				}
				return t.showProofs(proofs)
			})
		},
	}
	t.dirFlag(cmd)
	cmd.Flags().StringVar(&t.where.nats, "nats", "", "URL of NATS (COUNTINGHOUSE_NATS__URL)")
	cmd.Flags().StringVar(&tenant, "tenant", "", "only this tenant (default: all)")
	cmd.Flags().StringVar(&head, "head", "", "SHA-256 of an entry noted down earlier, which must still be there; with --tenant")
	return t.listingFlag(cmd)
}

func (t *tool) showProofs(proofs []control.LogProof) error {
	format, err := t.format()
	if err != nil {
		return err
	}
	ok := true
	rows := listing.Rows{Columns: []string{"tenant", "entries", "verdict", "head"}, Numbers: []string{"entries"}}
	for _, p := range proofs {
		verdict := "whole"
		if !p.OK() {
			ok, verdict = false, "BROKEN"
		}
		rows.Add(p.Tenant, strconv.FormatUint(p.Entries, 10), verdict, p.Head)
		if p.Broken != nil {
			fmt.Fprintf(t.err, "countinghouse: audit log of %s: entry %d %s\n", p.Tenant, p.Broken.Number, p.Broken.Why)
		}
		for _, m := range p.Missing {
			fmt.Fprintf(t.err, "countinghouse: audit log of %s: %s, and it is not there\n", p.Tenant, m)
		}
		for _, u := range p.Unrecorded {
			fmt.Fprintf(t.err, "countinghouse: audit log of %s: no entry for %s\n", p.Tenant, u)
		}
	}
	if format == listing.JSON {
		err = listing.Document(t.out, proofs)
	} else {
		err = rows.Print(t.out, format)
	}
	if err != nil || ok {
		return err
	}
	return no()
}
