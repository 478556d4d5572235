package localstack

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	deploy "github.com/countinghouse/countinghouse/deploy/clickhouse"
)

// ViewDatabase holds the views that analysts read.
const ViewDatabase = "usage_api"

// Analyst is a read-only SQL user who sees one tenant.
type Analyst struct {
	User     string // letters, digits, underscore
	Password string // not empty
	Tenant   string
}

// Table is a table under the views of usage_api. An analyst may read its rows where Tenant,
// a column, equals theirs; with Tenant empty, all of them (a table that says nothing about
// any tenant).
type Table struct {
	Database, Name, Tenant string
}

// Filter is the row policy of the table for a tenant, as the text of an XML element.
func (t Table) Filter(tenant string) string {
	if t.Tenant == "" {
		return "1"
	}
	return t.Tenant + " = '" + tenant + "'"
}

// WriteUsers writes dir/users.xml: the default user and one read-only user per analyst, from
// deploy/clickhouse/users.xml.tmpl, where the way tenants are kept apart is explained. It
// appears at once and whole.
//
// A clickhouse-server reads a changed file within seconds. The engine does not: it reads users
// when it starts, so a change takes ClickHouse.Restart (under a second; the services retry).
func WriteUsers(dir string, analysts []Analyst, tables []Table) error {
	text, err := renderUsers(analysts, tables)
	if err != nil {
		return fmt.Errorf("clickhouse users: %w", err)
	}
	name := filepath.Join(dir, "users.xml")
	tmp := name + ".new"
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return fmt.Errorf("clickhouse users: %w", err)
	}
	if err := os.Rename(tmp, name); err != nil {
		return fmt.Errorf("clickhouse users: %w", err)
	}
	return nil
}

type userEntry struct {
	User, PasswordSHA256, Tenant, Network string
}

type databaseEntry struct {
	Name   string
	Tables []Table
}

func renderUsers(analysts []Analyst, tables []Table) ([]byte, error) {
	// Names go into XML and SQL as they are, so they may hold nothing that means anything there.
	name := regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,127}$`)
	tenant := regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`) // interfaces, 1
	data := struct {
		ViewDatabase string
		Analysts     []userEntry
		Databases    []databaseEntry
	}{ViewDatabase: ViewDatabase}
	for _, a := range analysts {
		switch {
		case !name.MatchString(a.User) || a.User == "default":
			return nil, fmt.Errorf("analyst: user %q is not a name", a.User)
		case !tenant.MatchString(a.Tenant):
			return nil, fmt.Errorf("analyst %s: tenant %q is not a name", a.User, a.Tenant)
		case a.Password == "":
			return nil, fmt.Errorf("analyst %s: no password", a.User)
		}
		sum := sha256.Sum256([]byte(a.Password))
		data.Analysts = append(data.Analysts, userEntry{a.User, hex.EncodeToString(sum[:]), a.Tenant, loopback})
	}
	tables = slices.SortedFunc(slices.Values(tables), func(a, b Table) int {
		return cmp.Or(strings.Compare(a.Database, b.Database), strings.Compare(a.Name, b.Name))
	})
	for _, t := range tables {
		if !name.MatchString(t.Database) || !name.MatchString(t.Name) || t.Tenant != "" && !name.MatchString(t.Tenant) {
			return nil, fmt.Errorf("table %q.%q with tenant column %q: not names", t.Database, t.Name, t.Tenant)
		}
		if n := len(data.Databases); n == 0 || data.Databases[n-1].Name != t.Database {
			data.Databases = append(data.Databases, databaseEntry{Name: t.Database})
		}
		last := &data.Databases[len(data.Databases)-1]
		last.Tables = append(last.Tables, t)
	}
	tmpl, err := template.New("users.xml").Parse(deploy.Users)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := tmpl.Execute(&out, data); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
