package limits_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
)

const (
	exitConfig = 78
	secret     = "s3cr3t-hunter2"
)

// TestF30Config: a configuration that cannot work ends the program before it starts, with exit code 78 and a line
// that names the setting, and nothing that it prints holds a secret.
func TestF30Config(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := newPair(t, dir, "good", time.Now().Add(time.Hour))
	other := newPair(t, dir, "other", time.Now().Add(time.Hour))
	old := newPair(t, dir, "old", time.Now().Add(-time.Hour))
	missing := filepath.Join(dir, "missing")
	dsn := "clickhouse://writer:" + secret + "@127.0.0.1:9000/countinghouse"
	tests := []struct {
		service string
		args    []string
		env     []string
		want    string // the setting, as it is named
	}{
		{"ingest", []string{"--config", write("key.yaml", "ingest:\n  lisen: 127.0.0.1:0\nnats: {password: "+secret+"}\n")}, nil, "lisen: unknown setting"},
		{"aggregator", []string{"--config", write("section.yaml", "aggregater: {name: x}\nnats: {password: "+secret+"}\n")}, nil, "aggregater: unknown section"},
		{"reporter", nil, []string{"COUNTINGHOUSE_REPORTER__NOPE=" + secret}, "COUNTINGHOUSE_REPORTER__NOPE: unknown setting"},
		{"ingest", []string{"--limit-body-bytes", "5MiX", "--nats-password", secret}, nil, "--limit-body-bytes"},
		{"aggregator", []string{"--flush-wait", "3 days", "--clickhouse", dsn}, nil, "--flush-wait"},
		{"aggregator", []string{"--batch-rows", "-1", "--clickhouse", dsn}, nil, "batch_rows"},
		{"ingest", nil, []string{"COUNTINGHOUSE_NATS__PASSWORD_FILE=" + missing}, "COUNTINGHOUSE_NATS__PASSWORD_FILE: read secret"},
		{"reporter", nil, []string{"COUNTINGHOUSE_CLICKHOUSE__DSN_FILE=" + missing}, "COUNTINGHOUSE_CLICKHOUSE__DSN_FILE: read secret"},
		{"reporter", []string{"--clickhouse-password-file", missing, "--clickhouse", dsn}, nil, "password_file"},
		{"aggregator", []string{"--nats-creds", missing, "--clickhouse", dsn}, nil, "creds"},
		{"aggregator", []string{"--clickhouse", "clickhouse://writer:" + secret + "%zz@127.0.0.1:9000/countinghouse"}, nil, "clickhouse: dsn"},
		{"reporter", []string{"--clickhouse", "http://writer:" + secret + "@127.0.0.1:8123/countinghouse"}, nil, "clickhouse: dsn"},
		{"aggregator", []string{"--clickhouse", dsn, "--clickhouse-servers", dsn, "--clickhouse-cluster", "c"}, nil, "clickhouse: servers"},
		{"ingest", []string{"--tls-cert", old.cert, "--tls-key", old.key}, nil, "tls.cert"},
		{"ingest", []string{"--tls-cert", good.cert, "--tls-key", other.key}, nil, "tls.cert"},
		{"ingest", []string{"--tls-cert", good.cert}, nil, "tls.key"},
		{"ingest", []string{"--nats-tls-cert", old.cert, "--nats-tls-key", old.key}, nil, "nats: tls_cert"},
		{"aggregator", []string{"--nats-tls-ca", old.cert, "--clickhouse", dsn}, nil, "nats: tls_ca"},
		{"reporter", []string{"--clickhouse-tls-ca", good.key, "--clickhouse", dsn}, nil, "clickhouse: tls_ca"},
		{"reporter", []string{"--clickhouse-tls-ca", missing, "--clickhouse", dsn}, nil, "clickhouse: tls_ca"},
	}
	for _, tt := range tests {
		cmd := exec.CommandContext(t.Context(), fight.Program(), append([]string{"__" + tt.service}, tt.args...)...)
		cmd.Env = append(os.Environ(), tt.env...)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitConfig {
			t.Errorf("%s %q %q: %v, want exit code %d\n%s", tt.service, tt.args, tt.env, err, exitConfig, out)
		}
		if !strings.Contains(string(out), tt.want) {
			t.Errorf("%s %q %q does not name %q:\n%s", tt.service, tt.args, tt.env, tt.want, out)
		}
		if strings.Contains(string(out), secret) || strings.Contains(string(out), "PRIVATE KEY") {
			t.Errorf("%s %q %q prints a secret:\n%s", tt.service, tt.args, tt.env, out)
		}
	}
	if !t.Failed() {
		fmt.Printf("F30c PASS seed=0 configurations=%d exit=78 secrets_printed=0\n", len(tests))
	}
}

// pair is a certificate that signed itself, and its key, as files.
type pair struct {
	cert, key string
	leaf      *x509.Certificate
}

func newPair(t *testing.T, dir, name string, until time.Time) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	p := pair{cert: filepath.Join(dir, name+".crt"), key: filepath.Join(dir, name+".key")}
	if p.leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	secretKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{p.cert: {Type: "CERTIFICATE", Bytes: der}, p.key: {Type: "PRIVATE KEY", Bytes: secretKey}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}
