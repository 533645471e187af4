package cluster

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/covey-run/covey/internal/certs"
	"github.com/covey-run/covey/messages"
)

// Whoever shows no key, or a wrong one, gets nowhere, and neither does one whose
// server shows a wrong certificate. No error holds a seed.
func TestStrangers(t *testing.T) {
	t.Parallel()
	cfg := clusterConfigs(t, 1)[0]
	elsewhere := cfg
	elsewhere.Name, elsewhere.Dir = "elsewhere", t.TempDir()
	must(certs.Init(cfg.Cluster.Certs, []certs.Spec{{Name: "elsewhere", Hosts: []string{"elsewhere.example"}}}, 0))(t)
	cl := *cfg.Cluster
	cl.Listen, cl.Routes = fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	cl.Peers = nil
	elsewhere.Cluster = &cl
	startAll(t, []Config{cfg, elsewhere})
	ctx := testCtx(t)
	other := certsFor(t, "n1")
	seed := filepath.Join(t.TempDir(), "mine.nk")
	kp := must(nkeys.CreateUser())(t)
	ok(t, os.WriteFile(seed, must(kp.Seed())(t), 0o600))
	open := filepath.Join(t.TempDir(), "open.nk")
	ok(t, os.WriteFile(open, must(kp.Seed())(t), 0o604))
	expired := expiredServer(t)
	for _, c := range []struct {
		name  string
		do    func(*Config)
		class messages.Class
		words string
	}{
		{"anonymous", func(c *Config) { c.Credentials.NKeyFile = "" }, messages.Unauthorized, "refuses these credentials"},
		{"no credentials at all", func(c *Config) { c.Credentials = Credentials{} }, messages.Unauthorized, "name its CA"},
		{"another cluster's key", func(c *Config) { c.Credentials.NKeyFile = filepath.Join(other, "n1.nk") }, messages.Unauthorized, "refuses these credentials"},
		{"a key without a role", func(c *Config) { c.Credentials.NKeyFile = seed }, messages.Unauthorized, "refuses these credentials"},
		{"another authority", func(c *Config) { c.Credentials.CA = filepath.Join(other, "ca.pem") }, messages.Unauthorized, "not trusted"},
		{"a certificate for another host", func(c *Config) { c.URL = "tls://" + elsewhere.Cluster.Listen }, messages.Unauthorized, "cannot validate certificate for 127.0.0.1"},
		{"an expired certificate", func(c *Config) { c.URL, c.Credentials = expired.url, Credentials{CA: expired.ca} }, messages.Unauthorized, "expired"},
		{"an open seed file", func(c *Config) { c.Credentials.NKeyFile = open }, messages.Invalid, "0604"},
		{"no such seed file", func(c *Config) { c.Credentials.NKeyFile = seed + "x" }, messages.Invalid, "mine.nkx"},
		{"no seed in it", func(c *Config) { c.Credentials.NKeyFile = seedless(t) }, messages.Invalid, "no seed"},
		{"no PEM", func(c *Config) { c.Credentials.CA = seed }, messages.Invalid, "holds no certificate"},
		{"a certificate without its key", func(c *Config) { c.Credentials.Cert = "x" }, messages.Invalid, "use both or neither"},
		{"a server without TLS", func(c *Config) { c.URL, _ = listen(t, t.TempDir(), freePort(t)); c.Credentials.NKeyFile = "" }, messages.Unauthorized, "no TLS"},
	} {
		config := as(cfg, "submit")
		c.do(&config)
		client, err := Open(ctx, config)
		if err == nil {
			client.Close()
		}
		if messages.ClassOf(err) != c.class || !strings.Contains(fmt.Sprint(err), c.words) {
			t.Errorf("%s: %v, want %s with %q", c.name, err, c.class, c.words)
		}
		for _, f := range []string{seed, filepath.Join(other, "n1.nk"), filepath.Join(cfg.Cluster.Certs, "submit.nk")} {
			if s := string(must(os.ReadFile(f))(t)); err != nil && strings.Contains(err.Error(), s[:12]) {
				t.Errorf("%s: a seed is in the error", c.name)
			}
		}
	}
}

func seedless(t testing.TB) string {
	path := filepath.Join(t.TempDir(), "no.nk")
	ok(t, os.WriteFile(path, []byte("SUNOTASEED\n"), 0o600))
	return path
}

type expiredAt struct{ url, ca string }

// expiredServer has a certificate that was good until yesterday.
func expiredServer(t testing.TB) expiredAt {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().AddDate(0, 0, -2), NotAfter: time.Now().AddDate(0, 0, -1),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der := must(x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key))(t)
	url, _ := listen(t, t.TempDir(), freePort(t), func(o *server.Options) {
		o.TLS, o.TLSConfig = true, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	})
	path := filepath.Join(t.TempDir(), "ca.pem")
	ok(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return expiredAt{strings.Replace(url, "nats:", "tls:", 1), path}
}

// A stranger's server joins no cluster: not with a certificate of its own
// authority, nor without TLS. What is said in the cluster does not reach it.
func TestForeignServers(t *testing.T) {
	t.Parallel()
	cfgs := clusterConfigs(t, 3)
	log := &lines{}
	for i := range cfgs {
		cfgs[i].Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	nodes := startAll(t, cfgs)
	ctx := clusterCtx(t)
	other := must(certs.Load(certsFor(t, "n1"), "n1"))(t)
	for name, conf := range map[string]*tls.Config{"another authority": other.Routes, "no TLS": nil} {
		t.Run(name, func(t *testing.T) {
			before := log.count("tls", "handshake")
			route := &url.URL{Scheme: "nats-route", Host: cfgs[0].Cluster.Routes}
			url, _ := listen(t, t.TempDir(), freePort(t), func(o *server.Options) {
				o.JetStream, o.ServerName = false, "stranger"
				o.Cluster = server.ClusterOpts{Name: "covey", Host: "127.0.0.1", Port: freePort(t), TLSConfig: conf, TLSTimeout: 2}
				o.Routes = append(o.Routes, route)
			})
			spy := must(nats.Connect(url))(t)
			defer spy.Close()
			heard := must(spy.SubscribeSync(">"))(t)
			ok(t, spy.Flush())
			for log.count("tls", "handshake") < before+2 { // it tries, and tries again
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
					t.Fatalf("no try to join is in the log:\n%s", log)
				}
			}
			if n := nodes[0].store.server; len(must(n.Routez(nil))(t).Routes) == 0 {
				t.Error("the cluster has no routes")
			} else {
				for _, r := range must(n.Routez(nil))(t).Routes {
					if r.RemoteName == "stranger" {
						t.Error("the stranger has joined")
					}
				}
			}
			j := nodes[0].client.journal
			w := claim(t, j, "secret-"+strings.ReplaceAll(name, " ", "-"), "plan", "n1")
			must(w.Append(ctx, "1", said("secret")))(t)
			ok(t, nodes[0].nc.Publish("covey.bus.secret.plan", []byte("secret")))
			ok(t, nodes[0].nc.Flush())
			ok(t, spy.Flush())
			if m, err := heard.NextMsg(100 * time.Millisecond); err == nil {
				t.Errorf("the stranger hears %s: %q", m.Subject, m.Data)
			}
		})
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// count is how many lines hold all words, in any case.
func (l *lines) count(words ...string) (n int) {
	for line := range strings.Lines(strings.ToLower(l.String())) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			n++
		}
	}
	return n
}
