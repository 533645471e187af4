package certs

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Shown is one entry of a folder: a certificate, a key with a role, or both. It
// holds no secret.
type Shown struct {
	Name string `json:"name"`
	// Role is "authority" for the one that signs.
	Role  string   `json:"role,omitempty"`
	Key   string   `json:"key,omitempty"`
	Hosts []string `json:"hosts,omitempty"`
	// Expires and Fingerprint are those of its certificate, zero for none.
	Expires     time.Time `json:"expires,omitzero"`
	Expired     bool      `json:"expired,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
}

// Show lists what a folder holds: the authority first, then the users.
func Show(dir string) ([]Shown, error) {
	ca, err := readCert(filepath.Join(dir, CAFile))
	if err != nil {
		return nil, err
	}
	all := []Shown{{Name: strings.TrimSuffix(CAFile, ".pem"), Role: "authority", Expires: ca.NotAfter, Expired: time.Now().After(ca.NotAfter), Fingerprint: fingerprint(ca)}}
	users, err := Users(dir)
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		s := Shown{Name: u.Name, Role: string(u.Role), Key: u.Key}
		path := filepath.Join(dir, u.Name+".pem")
		if _, err := os.Lstat(path); err == nil {
			cert, err := readCert(path)
			if err != nil {
				return nil, err
			}
			s.Hosts, s.Expires, s.Expired, s.Fingerprint = hostsOf(cert), cert.NotAfter, time.Now().After(cert.NotAfter), fingerprint(cert)
		}
		all = append(all, s)
	}
	return all, nil
}
