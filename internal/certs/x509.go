package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/covey-run/covey/messages"
)

// early is how long before it was made a certificate holds: machines' clocks
// differ.
const early = time.Hour

// authority signs.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// template is a certificate that holds for so many days from now on.
func template(name string, now time.Time, days int) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-early), NotAfter: now.AddDate(0, 0, days), BasicConstraintsValid: true,
	}, err
}

// newAuthority makes ca.pem and ca.key in dir.
func newAuthority(dir string, now time.Time, days int) (*authority, error) {
	t, err := template("covey", now, days)
	if err != nil {
		return nil, failed(dir, err)
	}
	t.IsCA, t.MaxPathLenZero, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	a := &authority{}
	if a.cert, a.key, err = sign(t, nil); err != nil {
		return nil, failed(dir, err)
	}
	return a, writePair(filepath.Join(dir, CAFile), filepath.Join(dir, caKeyFile), a.cert, a.key)
}

// readAuthority reads them back.
func readAuthority(dir string) (*authority, error) {
	cert, err := readCert(filepath.Join(dir, CAFile))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, caKeyFile)
	if err := CheckPrivate("cert", path); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, CAFile), path)
	if err != nil {
		return nil, failed(path, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, failed(path, errors.New("it is no ECDSA key"))
	}
	return &authority{cert, key}, nil
}

// issue makes a node's certificate: for its clients, and both ways between
// servers.
func (a *authority) issue(dir, name string, hosts []string, now time.Time, days int) error {
	t, err := template(name, now, days)
	if err != nil {
		return failed(name, err)
	}
	if t.NotAfter.After(a.cert.NotAfter) {
		t.NotAfter = a.cert.NotAfter
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	cert, key, err := sign(t, a)
	if err != nil {
		return failed(name, err)
	}
	return writePair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"), cert, key)
}

// sign makes a key and its certificate, signed by a, or by itself for nil.
func sign(t *x509.Certificate, a *authority) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if a == nil {
		a = &authority{t, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

// writePair writes the key first: a certificate that is there has its key.
func writePair(certPath, keyPath string, cert *x509.Certificate, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return failed(keyPath, err)
	}
	if err := create(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return err
	}
	return create(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o644)
}

func readCert(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, failed(path, err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, failed(path, errors.New("it holds no certificate in PEM"))
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, failed(path, err)
	}
	return cert, nil
}

// hostsOf are the names and addresses that a certificate is for.
func hostsOf(c *x509.Certificate) []string {
	hosts := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

// fingerprint is the SHA-256 of a certificate, in pairs of hexadecimal digits.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	var pairs []string
	for _, b := range sum {
		pairs = append(pairs, hex.EncodeToString([]byte{b}))
	}
	return strings.Join(pairs, ":")
}

// create writes a file that is not there yet, whole.
func create(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return failed(path, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return failed(path, errors.Join(err, os.Remove(path)))
	}
	return nil
}

// replace writes a file, whole or not at all, unless it holds that already.
func replace(path string, data []byte, mode os.FileMode) error {
	if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, data) {
		return nil
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return failed(path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return failed(path, err)
	}
	return nil
}

func failed(what string, err error) error {
	return messages.Errorf(messages.Invalid, "", "certificates: %s: %w", what, err)
}
