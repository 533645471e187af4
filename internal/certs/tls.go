package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/covey-run/covey/messages"
)

// Files are what a node has of the folder.
type Files struct {
	// NKeyFile is the path of its seed.
	NKeyFile string
	// Hosts are the names and addresses that its certificate is for.
	Hosts []string
	// Users are who may connect, with their permissions.
	Users []*server.NkeyUser
	// Clients and Routes are the server's side of TLS: to clients, who show a
	// key, and to other servers, both of which show certificates.
	Clients, Routes *tls.Config
}

// Load reads the files of a node and checks that they fit together: a
// certificate that holds now, of this authority, and a seed that has the role of
// a node under that name.
func Load(dir, name string) (*Files, error) {
	pool, err := Pool("certs", filepath.Join(dir, CAFile))
	if err != nil {
		return nil, err
	}
	cert, err := Pair("certs", filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
	if err != nil {
		return nil, err
	}
	leaf, path := cert.Leaf, filepath.Join(dir, name+".pem")
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		if now := time.Now(); now.After(leaf.NotAfter) {
			return nil, messages.Errorf(messages.Invalid, "", "certificates: %s expired on %s: remove it and %s.key where they were made, and run `covey cert init` again", path, leaf.NotAfter.Format(time.DateOnly), name)
		}
		return nil, failed(path, err)
	}
	f := &Files{
		NKeyFile: filepath.Join(dir, name+".nk"), Hosts: hostsOf(leaf),
		Clients: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		Routes: &tls.Config{
			Certificates: []tls.Certificate{cert}, RootCAs: pool, ClientCAs: pool,
			ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
		},
	}
	key, err := PublicKey("certs", f.NKeyFile)
	if err != nil {
		return nil, err
	}
	users, err := Users(dir)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(users, User{name, Node, key}) {
		return nil, messages.Errorf(messages.Invalid, "", "certificates: %s has no user %q of role %q with the key of %s: copy %s anew from where it was made", filepath.Join(dir, UsersFile), name, Node, f.NKeyFile, UsersFile)
	}
	for _, u := range users {
		f.Users = append(f.Users, &server.NkeyUser{Nkey: u.Key, Permissions: Permissions(u)})
	}
	return f, nil
}

// Pool reads the certificates of the authorities in a PEM file. field names the
// setting that has the path.
func Pool(field, path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, messages.Errorf(messages.Invalid, "", "%s: %w", field, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, messages.Errorf(messages.Invalid, "", "%s: %q holds no certificate in PEM", field, path)
	}
	return pool, nil
}

// Pair reads a certificate and its key, which CheckPrivate must allow.
func Pair(field, certPath, keyPath string) (tls.Certificate, error) {
	if err := CheckPrivate(field, keyPath); err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err == nil && pair.Leaf == nil {
		err = errors.New("no certificate")
	}
	if err != nil {
		return tls.Certificate{}, messages.Errorf(messages.Invalid, "", "%s: %q with the key %q: %w", field, certPath, keyPath, err)
	}
	return pair, nil
}
