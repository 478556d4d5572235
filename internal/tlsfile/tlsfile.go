// Package tlsfile checks the files of certificates that a configuration names, before a program starts
// with them: what every handshake would refuse is a fault of the configuration, to be told at once.
//
// Guarantee: an error names the setting and the file, and holds nothing of a private key. Files are read again
// by those who use them, so a check says nothing about later; a renewed file is never checked here.
package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// Pair checks a certificate and its key, both or neither of which are given: they can be read, belong
// together, and the certificate is in force. setting is the start of their names in the configuration: "tls_"
// for tls_cert and tls_key.
func Pair(setting, cert, key string, now time.Time) error {
	if cert == "" && key == "" {
		return nil
	}
	if cert == "" || key == "" {
		return fmt.Errorf("%scert, %skey: both or neither", setting, setting)
	}
	if _, err := os.ReadFile(key); err != nil {
		return fmt.Errorf("%skey: %w", setting, err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%scert: %s with %skey: %w", setting, cert, setting, err)
	}
	if err := inForce(pair.Leaf, now); err != nil {
		return fmt.Errorf("%scert: %s: %w", setting, cert, err)
	}
	return nil
}

// Authorities checks a file of certificate authorities: one of them at least can be read and is in force.
func Authorities(setting, file string, now time.Time) error {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%sca: %w", setting, err)
	}
	worst := errors.New("no certificate (PEM) in it")
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err == nil {
			err = inForce(c, now)
		}
		if err == nil {
			return nil
		}
		worst = err
	}
	return fmt.Errorf("%sca: %s: %w", setting, file, worst)
}

func inForce(c *x509.Certificate, now time.Time) error {
	switch {
	case c == nil:
		return errors.New("no certificate in it")
	case now.After(c.NotAfter):
		return fmt.Errorf("the certificate of %s expired on %s", c.Subject, c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return fmt.Errorf("the certificate of %s begins on %s", c.Subject, c.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}
