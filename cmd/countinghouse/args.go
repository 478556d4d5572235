package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

const anyNumber = -1

// arguments checks how many arguments a command is given, and says which it takes.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch n := len(args); {
		case n >= least && (most == anyNumber || n <= most):
			return nil
		case most == 0:
			return fmt.Errorf("%q is too much: %s takes flags only", args[0], cmd.CommandPath())
		case n < least:
			_, names, _ := strings.Cut(cmd.Use, " ")
			return fmt.Errorf("an argument is missing: %s %s", cmd.CommandPath(), names)
		default:
			_, names, _ := strings.Cut(cmd.Use, " ")
			return fmt.Errorf("%q is too much: %s %s", args[most], cmd.CommandPath(), names)
		}
	}
}

// onlyServices takes names of services.
func onlyServices(cmd *cobra.Command, args []string) error {
	for _, a := range args {
		if !slices.Contains(cmd.ValidArgs, a) {
			return fmt.Errorf("%q is no service: want %s", a, strings.Join(cmd.ValidArgs, ", "))
		}
	}
	return nil
}
