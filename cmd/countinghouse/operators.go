package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/config"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/stack"
)

// byCommand names this tool in the audit log: whoever reaches NATS rules anyway, and the first operator of all has to
// come from there.
func byCommand(command string) control.Actor { return control.Actor{By: "countinghouse " + command} }

func (t *tool) operators() *cobra.Command {
	cmd := group(&cobra.Command{Use: "operators", Short: "Who may sign in to the pages"})
	cmd.AddCommand(t.operatorsCreate(), t.operatorsList(), t.operatorsDisable(), t.operatorsPassword(), t.operatorsGrant(true), t.operatorsGrant(false))
	return cmd
}

// peopleFlags are those of commands on operators and roles.
func (t *tool) peopleFlags(cmd *cobra.Command, tenant *string) *cobra.Command {
	t.dirFlag(cmd)
	cmd.Flags().StringVar(&t.where.nats, "nats", "", "URL of NATS (COUNTINGHOUSE_NATS__URL)")
	cmd.Flags().StringVar(tenant, "tenant", stack.DefaultTenant, "tenant: [a-z0-9][a-z0-9_-]{0,62}")
	return t.listingFlag(cmd)
}

func (t *tool) withPeople(ctx context.Context, do func(*control.People) error) error {
	return t.withControl(ctx, func(store *control.Store) error {
		people := store.People(ctx)
		defer people.Close()
		err := do(people)
		if errors.Is(err, control.ErrInvalid) {
			return usageError("%w", err)
		}
		if errors.Is(err, control.ErrUnknownOperator) || errors.Is(err, control.ErrUnknownRole) || errors.Is(err, control.ErrTaken) || errors.Is(err, control.ErrInUse) {
			return &config.ExitError{Code: config.ExitNo, Err: err}
		}
		return err
	})
}

func (t *tool) withControl(ctx context.Context, do func(*control.Store) error) error {
	if _, err := t.format(); err != nil {
		return err
	}
	e, err := t.where.endpoints(needNATS)
	if err != nil {
		return err
	}
	l, err := openLog(ctx, e)
	if err != nil {
		return err
	}
	defer l.Close()
	store, err := control.Open(ctx, l.Conn(), zap.NewNop())
	if err != nil {
		return err
	}
	defer store.Close()
	return do(store)
}

func (t *tool) operatorsCreate() *cobra.Command {
	var spec control.OperatorSpec
	var roles []string
	var ask, none bool
	cmd := &cobra.Command{
		Use:   "create LOGIN",
		Short: "Make an operator; a password is generated and shown once",
		Long: `Makes an operator who may sign in to the pages of the reporter. The password is generated and shown once;
with --password-stdin it is read from the standard input instead, and with --no-password the operator signs
in at the issuer of OpenID Connect only.

A role is given with --role, for the whole tenant or, as ROLE@ACCOUNT, for an account and those below it.
System roles: ` + strings.Join(systemRoles(), ", ") + `.`,
		Example: `  countinghouse operators create gita --role "Super Administrator"
  countinghouse operators create omar --role "Account Manager@northwind" --email omar@example.com`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Login = args[0]
			for _, role := range roles {
				spec.Grants = append(spec.Grants, parseGrant(role))
			}
			shown, err := t.newPassword(ask, none)
			if err != nil {
				return err
			}
			if spec.Password = shown; ask {
				shown = ""
			}
			return t.withPeople(cmd.Context(), func(people *control.People) error {
				o, err := people.CreateOperator(cmd.Context(), byCommand("operators create"), spec)
				if err != nil {
					return err
				}
				return t.showOperator(o, shown)
			})
		},
	}
	cmd.Flags().StringSliceVar(&roles, "role", nil, "role, or ROLE@ACCOUNT; repeatable")
	cmd.Flags().StringVar(&spec.Name, "name", "", "for people; default: the login")
	cmd.Flags().StringVar(&spec.Email, "email", "", "address")
	cmd.Flags().StringVar(&spec.Subject, "subject", "", "who it is at the issuer of OpenID Connect: <issuer>|<sub>; default: bound at the first sign-in there")
	cmd.Flags().BoolVar(&ask, "password-stdin", false, "read the password from the standard input")
	cmd.Flags().BoolVar(&none, "no-password", false, "no password: sign in at the issuer only")
	return t.peopleFlags(cmd, &spec.Tenant)
}

func systemRoles() []string {
	var names []string
	for _, r := range access.SystemRoles() {
		names = append(names, r.Name)
	}
	return names
}

func parseGrant(text string) access.Grant {
	role, account, _ := strings.Cut(text, "@")
	return access.Grant{Role: strings.TrimSpace(role), Account: strings.TrimSpace(account)}
}

// newPassword is read, generated, or "".
func (t *tool) newPassword(ask, none bool) (string, error) {
	switch {
	case ask && none:
		return "", usageError("--password-stdin and --no-password exclude each other")
	case none:
		return "", nil
	case !ask:
		return control.NewPassword(), nil
	}
	return t.readSecret()
}

func (t *tool) showOperator(o control.Operator, password string) error {
	format, err := t.format()
	if err != nil {
		return err
	}
	if format == listing.JSON {
		return listing.Document(t.out, struct {
			control.Operator
			Password string `json:"password,omitempty"`
		}{o, password})
	}
	rows := listing.Rows{Columns: []string{"login", "tenant", "roles", "password"}}
	rows.Add(o.Login, o.Tenant, grantsText(o.Grants), password)
	if err := rows.Print(t.out, format); err != nil {
		return err
	}
	if format == listing.Table && password != "" {
		fmt.Fprintln(t.err, "The password is shown this once; keep it now.")
	}
	return nil
}

func grantsText(grants []access.Grant) string {
	texts := make([]string, len(grants))
	for i, g := range grants {
		if texts[i] = g.Role; g.Account != "" {
			texts[i] += "@" + g.Account
		}
	}
	return strings.Join(texts, ", ")
}

func (t *tool) operatorsList() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use: "ls", Short: "List operators and their roles", Example: `  countinghouse operators ls`, Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.withPeople(cmd.Context(), func(people *control.People) error {
				all, err := people.Operators(cmd.Context(), tenant)
				if err != nil {
					return err
				}
				rows := listing.Rows{Columns: []string{"login", "name", "roles", "email", "created_at", "disabled_at"}}
				for i := range all {
					o := &all[i]
					rows.Add(o.Login, o.Name, grantsText(o.Grants), o.Email, rfc3339(o.CreatedAt), instantOrNever(o.DisabledAt))
				}
				return t.print(&rows)
			})
		},
	}
	return t.peopleFlags(cmd, &tenant)
}

func (t *tool) operatorsDisable() *cobra.Command {
	var tenant string
	var again bool
	cmd := &cobra.Command{
		Use: "disable LOGIN", Short: "End an operator's sessions and let them sign in no more",
		Example: `  countinghouse operators disable omar
  countinghouse operators disable omar --undo`, Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.withPeople(cmd.Context(), func(people *control.People) error {
				change := people.DisableOperator
				if again {
					change = people.EnableOperator
				}
				o, err := change(cmd.Context(), byCommand("operators disable"), tenant, args[0])
				if err != nil {
					return err
				}
				rows := listing.Rows{Columns: []string{"login", "disabled_at"}}
				rows.Add(o.Login, instantOrNever(o.DisabledAt))
				return t.print(&rows)
			})
		},
	}
	cmd.Flags().BoolVar(&again, "undo", false, "let them sign in again")
	return t.peopleFlags(cmd, &tenant)
}

func (t *tool) operatorsPassword() *cobra.Command {
	var tenant string
	var ask bool
	cmd := &cobra.Command{
		Use: "passwd LOGIN", Short: "Give an operator another password, which ends their sessions",
		Example: `  countinghouse operators passwd omar`, Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := t.newPassword(ask, false)
			if err != nil {
				return err
			}
			return t.withPeople(cmd.Context(), func(people *control.People) error {
				o, err := people.SetPassword(cmd.Context(), byCommand("operators passwd"), tenant, args[0], password)
				if err != nil {
					return err
				}
				if ask {
					password = ""
				}
				return t.showOperator(o, password)
			})
		},
	}
	cmd.Flags().BoolVar(&ask, "password-stdin", false, "read the password from the standard input instead of making one")
	return t.peopleFlags(cmd, &tenant)
}

func (t *tool) operatorsGrant(give bool) *cobra.Command {
	var tenant string
	use, short := "grant LOGIN ROLE[@ACCOUNT]...", "Give an operator roles, from the next sign-in on"
	if !give {
		use, short = "revoke LOGIN ROLE[@ACCOUNT]...", "Take roles from an operator, from the next sign-in on"
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: arguments(2, anyNumber),
		Example: `  countinghouse operators ` + strings.Fields(use)[0] + ` omar "Account Manager@northwind"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.withPeople(cmd.Context(), func(people *control.People) error {
				change := people.Grant
				if !give {
					change = people.Revoke
				}
				var o control.Operator
				for _, role := range args[1:] {
					var err error
					if o, err = change(cmd.Context(), byCommand("operators "+strings.Fields(use)[0]), tenant, args[0], parseGrant(role)); err != nil {
						return err
					}
				}
				return t.showOperator(o, "")
			})
		},
	}
	return t.peopleFlags(cmd, &tenant)
}
