package main

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/listing"
)

func (t *tool) roles() *cobra.Command {
	cmd := group(&cobra.Command{Use: "roles", Short: "What operators may do"})
	cmd.AddCommand(t.rolesList(), t.rolesSet(true), t.rolesSet(false), t.rolesRemove())
	return cmd
}

func (t *tool) rolesList() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use: "ls", Short: "List the system roles and the tenant's own", Example: `  countinghouse roles ls`, Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.withPeople(cmd.Context(), func(people *control.People) error {
				all, err := people.Roles(cmd.Context(), tenant)
				if err != nil {
					return err
				}
				rows := listing.Rows{Columns: []string{"name", "kind", "rights", "manages", "description"}}
				for i := range all {
					addRole(&rows, &all[i])
				}
				return t.print(&rows)
			})
		},
	}
	return t.peopleFlags(cmd, &tenant)
}

func addRole(rows *listing.Rows, r *access.Role) {
	kind, manages := "custom", strings.Join(r.Manages, ", ")
	if r.System {
		kind = "system"
	}
	if r.ManageAll {
		manages = "all roles"
	}
	rights := []string{}
	for _, right := range r.Rights.List() {
		text := right.String()
		if len(r.Rights[right.Entity]) == len(access.Verbs()) {
			text = string(right.Entity) + ":all"
		}
		if !slices.Contains(rights, text) {
			rights = append(rights, text)
		}
	}
	rows.Add(r.Name, kind, strings.Join(rights, " "), manages, r.Description)
}

func (t *tool) rolesSet(create bool) *cobra.Command {
	var tenant string
	var role access.Role
	var rights []string
	use, short := "create NAME", "Make a role"
	if !create {
		use, short = "edit NAME", "Replace what a role allows; in force at the next sign-in of who holds it"
	}
	entities := []string{}
	for _, e := range access.Entities() {
		entities = append(entities, string(e))
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: arguments(1, 1),
		Long: short + `. A right is ENTITY:VERB; verbs are view, add, edit, remove, all.

Entities: ` + strings.Join(entities, ", ") + `.`,
		Example: `  countinghouse roles ` + strings.Fields(use)[0] + ` Finance --right months:all --right reports:all --right data-health:view`,
		RunE: func(cmd *cobra.Command, args []string) error {
			role.Name, role.Rights = args[0], access.Rights{}
			for _, right := range rights {
				entity, verb, ok := strings.Cut(right, ":")
				if !ok {
					return usageError("--right %s: want ENTITY:VERB", right)
				}
				role.Rights[access.Entity(entity)] = append(role.Rights[access.Entity(entity)], access.Verb(verb))
			}
			return t.withPeople(cmd.Context(), func(people *control.People) error {
				var made access.Role
				var err error
				if create {
					made, err = people.CreateRole(cmd.Context(), byCommand("roles create"), tenant, role)
				} else {
					made, err = people.EditRole(cmd.Context(), byCommand("roles edit"), tenant, role.Name, role)
				}
				if err != nil {
					return err
				}
				rows := listing.Rows{Columns: []string{"name", "kind", "rights", "manages", "description"}}
				addRole(&rows, &made)
				return t.print(&rows)
			})
		},
	}
	cmd.Flags().StringSliceVar(&rights, "right", nil, "ENTITY:VERB, repeatable")
	cmd.Flags().StringVar(&role.Description, "description", "", "for people")
	cmd.Flags().BoolVar(&role.ManageAll, "manage-all-roles", false, "holders may make, give and change every role")
	cmd.Flags().StringSliceVar(&role.Manages, "manages", nil, "holders may give and change this role, repeatable")
	return t.peopleFlags(cmd, &tenant)
}

func (t *tool) rolesRemove() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use: "rm NAME", Short: "End a role that nobody holds", Example: `  countinghouse roles rm Finance`, Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.withPeople(cmd.Context(), func(people *control.People) error {
				if err := people.RemoveRole(cmd.Context(), byCommand("roles rm"), tenant, args[0]); err != nil {
					return err
				}
				rows := listing.Rows{Columns: []string{"name", "state"}}
				rows.Add(args[0], "removed")
				return t.print(&rows)
			})
		},
	}
	return t.peopleFlags(cmd, &tenant)
}

// readSecret reads one line of the standard input.
func (t *tool) readSecret() (string, error) {
	line, err := bufio.NewReader(io.LimitReader(t.in, 4<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", usageError("--password-stdin: %w", err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", usageError("--password-stdin: there is nothing on the standard input")
	}
	return line, nil
}
