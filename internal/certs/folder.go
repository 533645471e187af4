package certs

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/covey-run/covey/messages"
)

// The files of the folder that are not named after a node.
const (
	CAFile    = "ca.pem"
	caKeyFile = "ca.key"
	UsersFile = "users.json"
	ConfFile  = "nats.conf"
)

const (
	// DefaultDays is how long a node's certificate holds.
	DefaultDays = 365
	caDays      = 3650
)

// Spec is a node to make a certificate and a key for.
type Spec struct {
	Name string
	// Hosts are the names and addresses under which it is reached. Zero:
	// localhost, 127.0.0.1 and ::1.
	Hosts []string
}

var loopback = []string{"localhost", "127.0.0.1", "::1"}

// reserved are names that files or keys of the folder have.
var reserved = []string{"ca", "nats", "users", string(Submit), string(Observe), string(Member)}

func (s Spec) check() error {
	if err := messages.CheckName("node", s.Name); err != nil {
		return err
	}
	if slices.Contains(reserved, s.Name) {
		return messages.Errorf(messages.Invalid, "", "node: %q is not allowed: %q are names of other files", s.Name, reserved)
	}
	if slices.Contains(s.Hosts, "") {
		return messages.Errorf(messages.Invalid, "", "node %s: a host is empty: use NAME=host,host", s.Name)
	}
	return nil
}

// Init makes what is missing of the folder, and returns the files that it made
// or changed. It never replaces a key or a certificate: one that has expired is
// made anew once its NAME.pem and NAME.key are removed. days is how long
// certificates hold, 0 for [DefaultDays].
func Init(dir string, nodes []Spec, days int) (made []string, err error) {
	if days == 0 {
		days = DefaultDays
	}
	if days < 1 || days > caDays {
		return nil, messages.Errorf(messages.Invalid, "", "days: %d is not allowed: use 1 to %d", days, caDays)
	}
	for _, n := range nodes {
		if err := n.check(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, failed(dir, err)
	}
	before := contents(dir)
	defer func() { made = changed(before, contents(dir)) }()
	now := time.Now()
	ca, err := ensureAuthority(dir, now)
	if err != nil {
		return nil, err
	}
	users, err := Users(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, n := range nodes {
		if err := ca.ensureNode(dir, n, now, days); err != nil {
			return nil, err
		}
		if users, err = addUser(dir, users, n.Name, Node); err != nil {
			return nil, err
		}
	}
	for _, r := range handed {
		if users, err = addUser(dir, users, string(r), r); err != nil {
			return nil, err
		}
	}
	data, err := json.MarshalIndent(userList{users}, "", "  ")
	if err != nil {
		return nil, failed(UsersFile, err)
	}
	if err := replace(filepath.Join(dir, UsersFile), append(data, '\n'), 0o644); err != nil {
		return nil, err
	}
	return nil, writeConf(dir, users)
}

func ensureAuthority(dir string, now time.Time) (*authority, error) {
	_, certErr := os.Lstat(filepath.Join(dir, CAFile))
	_, keyErr := os.Lstat(filepath.Join(dir, caKeyFile))
	switch {
	case errors.Is(certErr, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist):
		return newAuthority(dir, now, caDays)
	case errors.Is(certErr, fs.ErrNotExist), errors.Is(keyErr, fs.ErrNotExist):
		return nil, messages.Errorf(messages.Invalid, "", "certificates: %s holds only one of %s and %s: use the folder in which they were made", dir, CAFile, caKeyFile)
	}
	return readAuthority(dir)
}

// ensureNode makes a node's certificate unless it is there, for the same hosts.
func (a *authority) ensureNode(dir string, n Spec, now time.Time, days int) error {
	path := filepath.Join(dir, n.Name+".pem")
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		hosts := n.Hosts
		if len(hosts) == 0 {
			hosts = loopback
		}
		return a.issue(dir, n.Name, hosts, now, days)
	}
	cert, err := readCert(path)
	if err != nil {
		return err
	}
	for _, h := range n.Hosts {
		if cert.VerifyHostname(h) != nil {
			return messages.Errorf(messages.Invalid, "", "node %s: its certificate is there, and is for %q: remove %s.pem and %s.key to have it made anew for %q",
				n.Name, hostsOf(cert), n.Name, n.Name, n.Hosts)
		}
	}
	return nil
}

// addUser makes the user's seed unless it is there, or only its public key is.
func addUser(dir string, users []User, name string, role Role) ([]User, error) {
	path := filepath.Join(dir, name+".nk")
	i := slices.IndexFunc(users, func(u User) bool { return u.Name == name })
	if _, err := os.Lstat(path); i >= 0 && errors.Is(err, fs.ErrNotExist) {
		return users, nil // the seed was moved to where it is used
	}
	key, _, err := makeSeed(path)
	if err != nil {
		return nil, err
	}
	u := User{name, role, key}
	if i < 0 {
		return append(users, u), nil
	}
	users[i] = u
	return users, nil
}

// userList is users.json.
type userList struct {
	Users []User `json:"users"`
}

// Users reads a folder's users.json.
func Users(dir string) ([]User, error) {
	path := filepath.Join(dir, UsersFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, failed(path, err)
	}
	var l userList
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, failed(path, err)
	}
	for _, u := range l.Users {
		if !slices.Contains(append(handed, Node), u.Role) {
			return nil, messages.Errorf(messages.Invalid, "", "certificates: %s: user %s: role: %q is not allowed: use one of %q", path, u.Name, u.Role, append(handed, Node))
		}
	}
	return l.Users, nil
}

// contents are a folder's files and when they were last written.
func contents(dir string) map[string]time.Time {
	all := map[string]time.Time{}
	entries, _ := os.ReadDir(dir) // what cannot be listed fails where it is written
	for _, e := range entries {
		if st, err := e.Info(); err == nil {
			all[e.Name()] = st.ModTime()
		}
	}
	return all
}

func changed(before, after map[string]time.Time) (names []string) {
	for name, at := range after {
		if was, ok := before[name]; !ok || !was.Equal(at) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
