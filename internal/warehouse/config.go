package warehouse

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/countinghouse/countinghouse/internal/tlsfile"
)

// Config says how to reach the server. Zero values are the defaults. It is the `clickhouse` section of
// every service that has one.
type Config struct {
	DSN string `koanf:"dsn" secret:"true" help:"clickhouse://user:password@host:9000/database; native protocol, the server itself, no load balancer"`
	// PasswordFile is for rotation: a DSN is read once.
	PasswordFile string `koanf:"password_file" help:"file with the password, instead of one in the DSN; read again at each connection"`

	// Where partitions of the log are spread over several servers (ADR 0008); none: dsn is the one server.
	Servers []string `koanf:"servers" secret:"true" help:"DSNs of the servers that hold the rows, where there are several: one database name on all of them; dsn is then read only, over Distributed tables"`
	Cluster string   `koanf:"cluster" help:"name of those servers in remote_servers of the server of dsn"`

	TLSCA   string `koanf:"tls_ca" help:"file of certificate authorities for ClickHouse; read again at each connection"`
	TLSCert string `koanf:"tls_cert" help:"client certificate file for ClickHouse; read again at each connection"`
	TLSKey  string `koanf:"tls_key" help:"key file of the client certificate"`

	InsertTimeout time.Duration `koanf:"insert_timeout" help:"after this an insert's outcome is unknown and the shard is taken over anew"`
	QueryTimeout  time.Duration `koanf:"query_timeout" help:"longest time one query may take"`
	Compress      bool          `koanf:"compress" help:"LZ4 on the wire: for a server behind a network; a loss on loopback"`

	// Dial replaces the dialer; tests use it to cut and to stall connections.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error) `koanf:"-"`
}

const (
	insertTimeout = 30 * time.Second
	queryTimeout  = time.Minute
)

// DefaultConfig is a server on this machine.
func DefaultConfig() Config {
	return Config{DSN: "clickhouse://127.0.0.1:9000/countinghouse", InsertTimeout: insertTimeout, QueryTimeout: queryTimeout}
}

// Validate lists everything that is wrong with c, each with the key to change.
func (c Config) Validate() []error {
	var faults []error
	if c.DSN == "" {
		faults = append(faults, errors.New("dsn: missing; want clickhouse://host:9000/countinghouse"))
	} else if options, err := parseDSN(c.DSN); err != nil {
		faults = append(faults, fmt.Errorf("dsn: %w", err))
	} else {
		faults = append(faults, c.validateServers(options.Auth.Database)...)
	}
	if c.PasswordFile != "" {
		if _, err := c.password(""); err != nil {
			faults = append(faults, err)
		}
	}
	now := time.Now()
	for _, err := range []error{tlsfile.Pair("tls_", c.TLSCert, c.TLSKey, now), tlsfile.Authorities("tls_", c.TLSCA, now)} {
		if err != nil {
			faults = append(faults, err)
		}
	}
	if c.InsertTimeout < 0 || c.QueryTimeout < 0 {
		faults = append(faults, errors.New("insert_timeout, query_timeout: must not be negative"))
	}
	return faults
}

// validateServers checks the list of servers against the database that is read.
func (c Config) validateServers(database string) []error {
	if len(c.Servers) == 0 {
		if c.Cluster != "" {
			return []error{errors.New("cluster: set without servers")}
		}
		return nil
	}
	var faults []error
	if !plainName.MatchString(c.Cluster) {
		faults = append(faults, errors.New("cluster: want the lower-case name of the servers in remote_servers of ClickHouse"))
	}
	var remote string
	seen := map[string]bool{}
	for i, dsn := range c.Servers {
		options, err := parseDSN(dsn)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("servers: number %d: %w", i+1, err))
			continue
		case seen[options.Addr[0]]:
			faults = append(faults, fmt.Errorf("servers: %s is named twice", options.Addr[0]))
		case remote != "" && options.Auth.Database != remote:
			faults = append(faults, fmt.Errorf("servers: databases %s and %s, want one name on all", remote, options.Auth.Database))
		}
		seen[options.Addr[0]], remote = true, options.Auth.Database
	}
	if remote == database {
		faults = append(faults, fmt.Errorf("servers: their database is %s, as that of dsn, which holds the Distributed tables: want another name", remote))
	}
	return faults
}

// parseDSN reads a DSN. Its errors do not repeat it: it may hold a password.
func parseDSN(dsn string) (*clickhouse.Options, error) {
	options, err := clickhouse.ParseDSN(dsn)
	var bad *url.Error
	switch {
	case errors.As(err, &bad):
		return nil, errors.New("no URL; want clickhouse://user:password@host:9000/database, other characters than letters and digits in the password as %XX")
	case err != nil:
		return nil, errors.New("want clickhouse://user:password@host:9000/database")
	case options.Protocol != clickhouse.Native:
		return nil, errors.New("the protocol must be native (clickhouse://), not HTTP")
	}
	options.Auth.Database = cmp.Or(options.Auth.Database, "countinghouse")
	if !plainName.MatchString(options.Auth.Database) {
		return nil, fmt.Errorf("database %q: want a lower-case identifier", options.Auth.Database)
	}
	return options, nil
}

// password is what a connection made now logs in with.
func (c Config) password(ofDSN string) (string, error) {
	if c.PasswordFile == "" {
		return ofDSN, nil
	}
	text, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// tls is nil unless a file is named. The files are read at each handshake, so a renewed certificate needs
// no restart: connections that exist live on, new ones use it.
func (c Config) tls(host string) *tls.Config {
	if c.TLSCA == "" && c.TLSCert == "" {
		return nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if c.TLSCert != "" {
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
			if err != nil {
				return nil, fmt.Errorf("clickhouse client certificate: %w", err)
			}
			return &pair, nil
		}
	}
	if c.TLSCA != "" {
		// crypto/tls reads RootCAs once; the same check is made by hand with the file as it is now.
		t.InsecureSkipVerify = true
		t.VerifyConnection = func(s tls.ConnectionState) error { return c.verify(host, s) }
	}
	return t
}

// verify is what crypto/tls does when InsecureSkipVerify is off, with roots read now.
func (c Config) verify(host string, s tls.ConnectionState) error {
	text, err := os.ReadFile(c.TLSCA)
	if err != nil {
		return fmt.Errorf("clickhouse certificate authorities: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("clickhouse certificate authorities: no certificate in %s", c.TLSCA)
	}
	opts := x509.VerifyOptions{Roots: roots, DNSName: host, Intermediates: x509.NewCertPool()}
	for _, cert := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := s.PeerCertificates[0].Verify(opts); err != nil {
		return fmt.Errorf("clickhouse certificate: %w", err)
	}
	return nil
}
