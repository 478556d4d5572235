package warehouse

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Config says how to reach the server. Zero values are the defaults. It is the `clickhouse` section of
// every service that has one.
type Config struct {
	DSN     string `koanf:"dsn" secret:"true" help:"clickhouse://user:password@host:9000/database; native protocol, the server itself, no load balancer"`
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
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		faults = append(faults, errors.New("tls_cert, tls_key: both or neither"))
	}
	if c.InsertTimeout < 0 || c.QueryTimeout < 0 {
		faults = append(faults, errors.New("insert_timeout, query_timeout: must not be negative"))
	}
	return faults
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
