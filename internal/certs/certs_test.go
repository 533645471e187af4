package certs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/covey-run/covey/messages"
)

func folder(t *testing.T, nodes ...Spec) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certs")
	if _, err := Init(dir, nodes, 0); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read1(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestInitAddsAndReplacesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	made, err := Init(dir, []Spec{{Name: "n1"}}, 0)
	want := []string{"ca.key", "ca.pem", "member.nk", "n1.key", "n1.nk", "n1.pem", "nats.conf", "observe.nk", "submit.nk", "users.json"}
	if err != nil || !slices.Equal(made, want) {
		t.Fatalf("made %q, want %q (%v)", made, want, err)
	}
	before := map[string]string{}
	for _, f := range want {
		before[f] = read1(t, filepath.Join(dir, f))
		st, err := os.Stat(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		private := strings.HasSuffix(f, ".key") || strings.HasSuffix(f, ".nk")
		if private && st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, st.Mode())
		}
		if !private && strings.Contains(before[f], "PRIVATE KEY") {
			t.Errorf("%s holds a private key", f)
		}
	}
	if made, err = Init(dir, []Spec{{Name: "n1"}}, 0); err != nil || len(made) > 0 {
		t.Errorf("the second time made %q (%v)", made, err)
	}
	made, err = Init(dir, []Spec{{Name: "n1"}, {Name: "n2", Hosts: []string{"n2.example", "10.0.0.2"}}}, 30)
	if want := []string{"n2.key", "n2.nk", "n2.pem", "nats.conf", "users.json"}; err != nil || !slices.Equal(made, want) {
		t.Errorf("a further name made %q, want %q (%v)", made, want, err)
	}
	for f, was := range before {
		if is := read1(t, filepath.Join(dir, f)); is != was && f != UsersFile && f != ConfFile {
			t.Errorf("%s was replaced", f)
		}
	}
	all, err := Show(dir)
	if err != nil || len(all) != 6 {
		t.Fatalf("%+v (%v)", all, err)
	}
	for _, s := range all {
		if s.Name == "n2" && (!slices.Equal(s.Hosts, []string{"n2.example", "10.0.0.2"}) || time.Until(s.Expires) > 31*24*time.Hour || s.Expired) {
			t.Errorf("%+v", s)
		}
	}
	for _, n := range []string{"n1", "n2"} {
		f, err := Load(dir, n)
		if err != nil || len(f.Users) != 5 {
			t.Errorf("%+v (%v)", f, err)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	dir := folder(t, Spec{Name: "n1"})
	seed := strings.TrimSpace(read1(t, filepath.Join(dir, "n1.nk")))
	for _, c := range []struct {
		name, words string
		do          func() error
	}{
		{"a reserved name", "reserved|\"ca\"", func() error { _, err := Init(dir, []Spec{{Name: "ca"}}, 0); return err }},
		{"no name", "is not a name", func() error { _, err := Init(dir, []Spec{{Name: "../x"}}, 0); return err }},
		{"days", "days: -1", func() error { _, err := Init(dir, nil, -1); return err }},
		{"other hosts", "remove n1.pem", func() error { _, err := Init(dir, []Spec{{"n1", []string{"else.example"}}}, 0); return err }},
		{"no such node", "n9.key", func() error { _, err := Load(dir, "n9"); return err }},
		{"an open seed", "0644", func() error {
			path := filepath.Join(dir, "n1.nk")
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.Chmod(path, 0o600) }()
			_, err := Load(dir, "n1")
			return err
		}},
		{"a damaged seed", "no seed", func() error {
			path := filepath.Join(t.TempDir(), "x.nk")
			if err := os.WriteFile(path, []byte(seed[:len(seed)-4]), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := PublicKey("nkey", path)
			return err
		}},
		{"a lost authority key", "only one of", func() error {
			other := folder(t)
			if err := os.Remove(filepath.Join(other, "ca.key")); err != nil {
				t.Fatal(err)
			}
			_, err := Init(other, nil, 0)
			return err
		}},
		{"another authority", "unknown authority", func() error {
			other := folder(t)
			if err := os.WriteFile(filepath.Join(dir, CAFile), []byte(read1(t, filepath.Join(other, CAFile))), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Load(dir, "n1")
			return err
		}},
	} {
		err := c.do()
		ok := false
		for w := range strings.SplitSeq(c.words, "|") {
			ok = ok || err != nil && strings.Contains(err.Error(), w)
		}
		if !ok || messages.ClassOf(err) != messages.Invalid {
			t.Errorf("%s: %v, want %q", c.name, err, c.words)
		}
		if err != nil && strings.Contains(err.Error(), seed[:20]) {
			t.Errorf("%s: the seed is in the error", c.name)
		}
	}
}

func TestExpired(t *testing.T) {
	dir := folder(t)
	ca, err := readAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.issue(dir, "old", loopback, time.Now().AddDate(0, 0, -40), 30); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir, []Spec{{Name: "old"}}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, "old"); err == nil || !strings.Contains(err.Error(), "expired on") {
		t.Errorf("%v", err)
	}
	all, err := Show(dir)
	if err != nil || !all[4].Expired {
		t.Errorf("%+v (%v)", all, err)
	}
}

// The configuration for a server of one's own starts one, with these users.
func TestConf(t *testing.T) {
	dir := folder(t, Spec{Name: "n1"})
	o, err := server.ProcessConfigFile(filepath.Join(dir, ConfFile))
	if err != nil {
		t.Fatal(err)
	}
	o.Port, o.StoreDir, o.NoLog, o.NoSigs = -1, t.TempDir(), true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("not ready")
	}
	for _, u := range o.Nkeys {
		i := slices.IndexFunc(must(Users(dir))(t), func(v User) bool { return v.Key == u.Nkey })
		want := Permissions(must(Users(dir))(t)[i])
		if !slices.Equal(u.Permissions.Publish.Allow, want.Publish.Allow) || !slices.Equal(u.Permissions.Subscribe.Allow, want.Subscribe.Allow) ||
			(want.Response != nil) != (u.Permissions.Response != nil) {
			t.Errorf("%s: %+v, want %+v", u.Nkey, u.Permissions, want)
		}
	}
	if _, err := nats.Connect(s.ClientURL(), nats.RootCAs(filepath.Join(dir, CAFile))); err == nil {
		t.Error("a connection without a key was taken")
	}
	key := must(nats.NkeyOptionFromSeed(filepath.Join(dir, "submit.nk")))(t)
	nc := must(nats.Connect(s.ClientURL(), nats.RootCAs(filepath.Join(dir, CAFile)), key))(t)
	nc.Close()
}

func TestLeafHoldsNoLongerThanItsAuthority(t *testing.T) {
	dir := t.TempDir()
	ca, err := newAuthority(dir, time.Now(), 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.issue(dir, "n", loopback, time.Now(), 365); err != nil {
		t.Fatal(err)
	}
	leaf := must(readCert(filepath.Join(dir, "n.pem")))(t)
	if leaf.NotAfter.After(ca.cert.NotAfter) {
		t.Errorf("%v after %v", leaf.NotAfter, ca.cert.NotAfter)
	}
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
