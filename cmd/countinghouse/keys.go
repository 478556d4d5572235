package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/client"
	"github.com/countinghouse/countinghouse/internal/config"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/problem"
	"github.com/countinghouse/countinghouse/internal/stack"
)

// newKey is a key with its secret, as `keys create -o json` and POST /keys answer it.
type newKey struct {
	ID        string    `json:"id"`
	Key       string    `json:"key"`
	Tenant    string    `json:"tenant"`
	Name      string    `json:"name"`
	Scopes    []string  `json:"scopes"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// keyStore makes keys: over NATS where it is known, else through the reporter.
type keyStore interface {
	create(ctx context.Context, tenant, name string, scopes []string, expires time.Duration) (newKey, error)
	list(ctx context.Context, tenant string) ([]control.Key, error)
	revoke(ctx context.Context, id string) error
	close()
}

func (t *tool) keys() *cobra.Command {
	cmd := group(&cobra.Command{Use: "keys", Short: "Create, list and revoke API keys"})
	cmd.AddCommand(t.keysCreate(), t.keysList(), t.keysRevoke())
	return cmd
}

func (t *tool) keyFlags(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&t.where.nats, "nats", "", "URL of NATS, to make keys without the reporter (COUNTINGHOUSE_NATS__URL)")
	return t.listingFlag(t.clientFlags(cmd))
}

func (t *tool) keysCreate() *cobra.Command {
	var tenant, name, expires string
	var scopes []string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a key; its secret is shown once",
		Long: `Creates an API key. A tenant exists from its first key. The secret is shown once and stored only as a
hash.

Scopes: ` + strings.Join(control.Scopes(), ", ") + `.`,
		Example: `  countinghouse keys create --tenant acme --scope events:write
  countinghouse keys create --tenant acme --scope usage:read --scope dlq:read --expires 30d -o json`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if tenant == "" || len(scopes) == 0 {
				return usageError("--tenant and at least one --scope must be given")
			}
			lifetime, err := parseDays(expires)
			if err != nil {
				return usageError("--expires: %w", err)
			}
			format, err := t.format()
			if err != nil {
				return err
			}
			return t.withKeys(cmd.Context(), func(keys keyStore) error {
				k, err := keys.create(cmd.Context(), tenant, name, scopes, lifetime)
				if err != nil {
					return err
				}
				return t.showKey(format, k)
			})
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "tenant: [a-z0-9][a-z0-9_-]{0,62}")
	cmd.Flags().StringSliceVar(&scopes, "scope", nil, "what the key may do, repeatable")
	cmd.Flags().StringVar(&expires, "expires", "", "end of the key from now: 30d, 12h (default: never)")
	cmd.Flags().StringVar(&name, "name", "", "what the key is for")
	_ = cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions(control.Scopes(), cobra.ShellCompDirectiveNoFileComp))
	return t.keyFlags(cmd)
}

func (t *tool) showKey(format listing.Format, k newKey) error {
	if format == listing.JSON {
		return listing.Document(t.out, k)
	}
	rows := listing.Rows{Columns: []string{"id", "key", "tenant", "scopes", "expires_at"}}
	rows.Add(k.ID, k.Key, k.Tenant, strings.Join(k.Scopes, " "), instantOrNever(k.ExpiresAt))
	if err := rows.Print(t.out, format); err != nil {
		return err
	}
	if format == listing.Table {
		fmt.Fprintln(t.err, "The key is shown this once; keep it now.")
	}
	return nil
}

func (t *tool) keysList() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List keys, without their secrets",
		Example: `  countinghouse keys ls --tenant acme`,
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := t.format(); err != nil {
				return err
			}
			return t.withKeys(cmd.Context(), func(keys keyStore) error {
				all, err := keys.list(cmd.Context(), tenant)
				if err != nil {
					return err
				}
				rows := listing.Rows{Columns: []string{"id", "tenant", "name", "scopes", "created_at", "expires_at", "revoked_at"}}
				for _, k := range all {
					rows.Add(k.ID, k.Tenant, k.Name, strings.Join(k.Scopes, " "), rfc3339(k.CreatedAt), instantOrNever(k.ExpiresAt), instantOrNever(k.RevokedAt))
				}
				return t.print(&rows)
			})
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "only this tenant")
	return t.keyFlags(cmd)
}

func (t *tool) keysRevoke() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "revoke ID...",
		Short:   "Revoke keys for ever; works everywhere within five seconds",
		Example: `  countinghouse keys revoke k7Qd0aZ1x9B`,
		Args:    arguments(1, anyNumber),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := t.format(); err != nil {
				return err
			}
			return t.withKeys(cmd.Context(), func(keys keyStore) error {
				rows := listing.Rows{Columns: []string{"id", "state"}}
				for _, id := range args {
					err := keys.revoke(cmd.Context(), id)
					if refused := (*problem.Problem)(nil); errors.Is(err, control.ErrUnknownKey) || errors.As(err, &refused) && refused.Status == http.StatusNotFound {
						return &config.ExitError{Code: config.ExitNo, Err: fmt.Errorf("no key %q; `countinghouse keys ls` lists the ids", id)}
					}
					if err != nil {
						return err
					}
					rows.Add(id, "revoked")
				}
				return t.print(&rows)
			})
		},
	}
	return t.keyFlags(cmd)
}

// parseDays is time.ParseDuration that also knows days.
func parseDays(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 36_500 {
			return 0, fmt.Errorf("%q is not a number of days", s)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is not a time such as 30d or 12h", s)
	}
	return d, nil
}

func instantOrNever(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return rfc3339(at)
}

func (t *tool) withKeys(ctx context.Context, do func(keyStore) error) error {
	e, err := t.where.endpoints()
	if err != nil {
		return err
	}
	keys, err := t.openKeys(ctx, e)
	if err != nil {
		return err
	}
	defer keys.close()
	return do(keys)
}

// openKeys prefers NATS: whoever reaches it rules anyway, and the first key of all has to come from there.
func (t *tool) openKeys(ctx context.Context, e stack.Endpoints) (keyStore, error) {
	if e.NATS != "" && t.where.reporterURL == "" {
		l, err := openLog(ctx, e)
		if err != nil {
			return nil, err
		}
		store, err := control.Open(ctx, l.Conn(), zap.NewNop())
		if err != nil {
			l.Close()
			return nil, err
		}
		return &natsKeys{l, store}, nil
	}
	if e.Reporter == "" {
		return nil, fmt.Errorf("%w in %s, and neither --nats nor --reporter-url is given; start one with `countinghouse up`", stack.ErrNotRunning, t.where.dir)
	}
	c, err := t.client(e)
	if err != nil {
		return nil, err
	}
	return httpKeys{c}, nil
}

type natsKeys struct {
	log   *eventlog.Log
	store *control.Store
}

func (k *natsKeys) create(ctx context.Context, tenant, name string, scopes []string, expires time.Duration) (newKey, error) {
	spec := control.Spec{Tenant: tenant, Name: name, Scopes: scopes, By: "countinghouse keys"}
	if expires > 0 {
		spec.Expires = time.Now().Add(expires).UTC().Truncate(time.Second)
	}
	secret := control.NewToken()
	made, err := k.store.CreateWithSecret(ctx, secret, spec)
	if errors.Is(err, control.ErrInvalid) {
		return newKey{}, usageError("%w", err)
	}
	return newKey{
		ID: made.ID, Key: secret, Tenant: made.Tenant, Name: made.Name, Scopes: made.Scopes, CreatedAt: made.CreatedAt, ExpiresAt: made.ExpiresAt,
	}, err
}

func (k *natsKeys) list(ctx context.Context, tenant string) ([]control.Key, error) {
	return k.store.List(ctx, tenant)
}

func (k *natsKeys) revoke(ctx context.Context, id string) error { return k.store.Revoke(ctx, id) }

func (k *natsKeys) close() {
	k.store.Close()
	k.log.Close()
}

type httpKeys struct{ client *client.Client }

func (k httpKeys) create(ctx context.Context, tenant, name string, scopes []string, expires time.Duration) (newKey, error) {
	body := map[string]any{"tenant": tenant, "name": name, "scopes": scopes}
	if expires > 0 {
		body["expires_at"] = time.Now().Add(expires).UTC().Truncate(time.Second)
	}
	var made newKey
	err := k.client.Call(ctx, http.MethodPost, "/keys", body, &made)
	return made, err
}

func (k httpKeys) list(ctx context.Context, tenant string) ([]control.Key, error) {
	query := url.Values{}
	if tenant != "" {
		query.Set("tenant", tenant)
	}
	var page struct {
		Rows []control.Key `json:"rows"`
	}
	err := k.client.Get(ctx, "/keys", query, &page)
	return page.Rows, err
}

func (k httpKeys) revoke(ctx context.Context, id string) error {
	return k.client.Call(ctx, http.MethodDelete, "/keys/"+url.PathEscape(id), nil, nil)
}

func (httpKeys) close() {}
