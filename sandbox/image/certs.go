//go:build !hot

package image

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tlsConfig gathers the certificates for a registry: containers-certs.d(5).
func tlsConfig(registry string, a Access, insecure bool) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	if a.CertDir != "" {
		entries, err := os.ReadDir(a.CertDir)
		if err != nil {
			return nil, err
		}
		return c, addCerts(c, a.CertDir, entries)
	}
	for _, base := range []string{configHome("containers", "certs.d"), "/etc/containers/certs.d", "/etc/docker/certs.d"} {
		dir := filepath.Join(base, registry)
		entries, err := os.ReadDir(dir)
		// Of the usual places, one that is not there or is not for us says nothing.
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return c, addCerts(c, dir, entries)
	}
	return c, nil
}

// addCerts reads *.crt (authorities), and *.cert with *.key (our own).
func addCerts(c *tls.Config, dir string, entries []fs.DirEntry) error {
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		switch filepath.Ext(file) {
		case ".crt":
			if err := addAuthority(c, file); err != nil {
				return err
			}
		case ".cert":
			key := strings.TrimSuffix(file, ".cert") + ".key"
			pair, err := tls.LoadX509KeyPair(file, key)
			if err != nil {
				return fmt.Errorf("certificate %s: %w", file, err)
			}
			c.Certificates = append(c.Certificates, pair)
		}
	}
	return nil
}

func addAuthority(c *tls.Config, file string) error {
	pem, err := readConfig(file)
	if err != nil {
		return err
	}
	if c.RootCAs == nil {
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			return fmt.Errorf("read the system's certificates: %w", err)
		}
	}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("certificate %s: no PEM certificate in it", file)
	}
	return nil
}
