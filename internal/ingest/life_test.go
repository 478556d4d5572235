package ingest_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/ingest"
	"github.com/countinghouse/countinghouse/internal/localstack"
)

// SIGTERM as the program handles it: readiness turns first, what is being served finishes.
func TestDrain(t *testing.T) {
	t.Parallel()
	const delay = 500 * time.Millisecond
	d := open(t, func(c *ingest.Config) { c.HTTP.DrainDelay = delay })
	body, feed := io.Pipe()
	first := make(chan answer, 1)
	go func() { // with 100-continue it is being served once a byte of its body is taken
		got, err := d.try(t.Context(), "", http.Header{"Content-Type": {"application/json"}, "Expect": {"100-continue"}}, body)
		if err != nil {
			t.Error(err)
		}
		first <- got
	}()
	if _, err := io.WriteString(feed, event("slow")[:20]); err != nil {
		t.Fatal(err)
	}
	closed, asked := make(chan error, 1), time.Now()
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
		defer cancel()
		closed <- d.app.Close(ctx)
	}()
	await(t, "draining", func() bool { return d.app.Health().Draining() })
	if code, _ := d.admin(t, "/readyz"); code != 503 {
		t.Errorf("/readyz = %d while draining, want 503", code)
	}
	d.client.CloseIdleConnections() // the server closes them now, and a request on one of them would meet that
	want := []string{"late", "slow"}
	got, err := d.try(t.Context(), "", http.Header{"Content-Type": {"application/json"}}, strings.NewReader(event("late")))
	switch {
	case err != nil && time.Since(asked) >= delay:
		want = want[1:] // this machine was slower than the delay: the port may be closed
	case err != nil || got.status != 202:
		t.Errorf("before the port closes a load balancer's stragglers are still served: %d %v", got.status, err)
	}
	await(t, "closed to newcomers", func() bool {
		conn, err := net.Dial("tcp", d.app.Addr())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if _, err := io.WriteString(feed, event("slow")[20:]); err != nil {
		t.Fatal(err)
	}
	feed.Close()
	if got := <-first; got.status != 202 {
		t.Errorf("the request that was being served: %d %s", got.status, got.body)
	}
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
	if err := d.app.Wait(); err != nil {
		t.Errorf("wait: %v", err)
	}
	if got := d.ids(t); !slices.Equal(got, want) {
		t.Errorf("the log holds %q", got)
	}
}

func TestTwoInOneProcess(t *testing.T) {
	t.Parallel()
	one := open(t)
	two := openOn(t, one.stack)
	if got := one.json(t, event("one")); got.status != 202 {
		t.Errorf("first: %d %s", got.status, got.body)
	}
	if got := two.json(t, event("two")); got.status != 202 {
		t.Errorf("second: %d %s", got.status, got.body)
	}
	one.key = two.key
	await(t, "taking the other's key", func() bool { return one.json(t, event("three")).status == 202 })
}

func TestCertificateIsReloaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, 1)
	d := open(t, func(c *ingest.Config) { c.TLS = ingest.TLSConfig{Cert: cert, Key: key} })
	served := func() int64 {
		conn, err := tls.Dial("tcp", d.app.Addr(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := served(); got != 1 {
		t.Fatalf("certificate %d is served, want 1", got)
	}
	pool := x509.NewCertPool()
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(text)
	d.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	d.awaitKey(t, d.key, http.StatusAccepted)
	if got := d.json(t, event("over-tls")); got.status != 202 {
		t.Errorf("over TLS: %d %s", got.status, got.body)
	}

	if err := os.WriteFile(cert, []byte("half a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := served(); got != 1 {
		t.Errorf("while the new file is broken certificate %d is served, want the old one", got)
	}
	writeCertificate(t, cert, key, 2)
	await(t, "served with the new certificate", func() bool { return served() == 2 })
}

func writeCertificate(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{key: {Type: "PRIVATE KEY", Bytes: raw}, cert: {Type: "CERTIFICATE", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Connections that dribble are closed by the time-outs, and others are served meanwhile.
func TestSlowloris(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *ingest.Config) { c.HTTP.HeaderWait, c.HTTP.BodyWait = time.Second, time.Second })
	closed := make(chan error, 200)
	for range cap(closed) / 2 {
		go func() { closed <- dribble(d.app.Addr(), "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-A: ") }()
		go func() {
			closed <- dribble(d.app.Addr(), "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer "+
				d.key+"\r\nContent-Length: 100000\r\n\r\n[")
		}()
	}
	await(t, "serving an honest client meanwhile", func() bool { // who has no more time than the others
		got, err := d.try(t.Context(), "", http.Header{"Content-Type": {"application/json"}}, strings.NewReader(event("quick")))
		return err == nil && got.status == 202
	})
	for range cap(closed) {
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
}

// dribble sends head and then waits for the server to give up; it answers an error if it does not.
func dribble(addr, head string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, head); err != nil {
		return err
	}
	answer, err := io.ReadAll(bufio.NewReader(conn))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("the connection was still open after 2 min")
	}
	if text := string(answer); text != "" && !strings.HasPrefix(text, "HTTP/1.1 408") {
		return fmt.Errorf("answered %q, want 408 or nothing", text)
	}
	return nil
}

func TestConfigurationIsCheckedAsAWhole(t *testing.T) {
	t.Parallel()
	cfg := ingest.DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	cfg.Listen, cfg.Limit.Events, cfg.TLS.Cert, cfg.Limit.RateBurst = "", 0, "x", -1
	cfg.Limit.Span += time.Nanosecond
	err := cfg.Validate()
	for _, want := range []string{"listen", "limit.events", "tls", "limit.rate_burst", "limit.span"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if _, err := ingest.Start(t.Context(), cfg, nil); err == nil {
		t.Error("started with a bad configuration")
	}
}

// A port that is taken is an error of Start, and Start leaves nothing behind.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	stack := localstack.Start(t, localstack.Options{NoClickHouse: true})
	d := openOn(t, stack)
	cfg := testConfig(stack)
	cfg.AdminListen = d.app.AdminAddr()
	if _, err := ingest.Start(t.Context(), cfg, d.logger); err == nil {
		t.Error("two services on one admin port")
	}
}
