package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/internal/certs"
	"github.com/covey-run/covey/messages"
)

// The addresses of an embedded server that other processes reach.
const (
	DefaultListen = "127.0.0.1:4222"
	DefaultRoutes = "127.0.0.1:6222"
)

// ClusterConfig makes the embedded server one of a cluster. Three servers keep
// every record three times: one of them may be lost at any time, and nothing that
// was acknowledged is. When it is the one that leads, appends wait for up to
// 10 s, and go on.
//
// All that goes over the network is under TLS: servers show one another
// certificates, and clients show servers nkeys, whose roles users.json gives.
type ClusterConfig struct {
	// Listen is the address for clients: submitters, observers, and nodes without
	// a server of their own. Zero: [DefaultListen], for this machine alone.
	Listen string
	// Routes is the address for the other servers. Zero: [DefaultRoutes].
	Routes string
	// Advertise is the address under which the other servers tell one another of
	// this one, where that is not Routes: behind a proxy, or in a container. Zero:
	// Routes.
	Advertise string
	// Peers are the addresses ("host:port") of all servers' Routes; this one's may
	// be among them or not. None but this one's: a single server, which listens
	// for clients only. There is no cluster of two, for both would have to be up
	// at all times. A server alone cannot become one of three later: its data
	// stays its own.
	Peers []string
	// Certs is the folder with ca.pem, users.json, and this node's NAME.pem,
	// NAME.key and NAME.nk, as `covey cert init` makes them. It is needed.
	Certs string
}

func (c ClusterConfig) withDefaults() ClusterConfig {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.Routes == "" {
		c.Routes = DefaultRoutes
	}
	return c
}

// check returns an error of class invalid that names the first field that is
// wrong. It reads no file.
func (c ClusterConfig) check(cfg Config) error {
	c = c.withDefaults()
	if cfg.URL != "" {
		return messages.Errorf(messages.Invalid, "", "config: cluster: not allowed together with a URL: use one of them")
	}
	if cfg.Name == "" {
		return messages.Errorf(messages.Invalid, "", `config: name: "" is not allowed with a cluster: use the name of the node's certificate and key`)
	}
	if c.Certs == "" {
		return messages.Errorf(messages.Invalid, "", `config: cluster: certs: "" is not allowed: use a folder made by "covey cert init --dir certs %s=HOST …" ("covey cert show --dir certs" tells what is in one)`, cfg.Name)
	}
	if err := checkAddress("listen", c.Listen); err != nil {
		return err
	}
	if err := checkAddress("routes", c.Routes); err != nil {
		return err
	}
	if c.Advertise != "" {
		if err := checkAddress("advertise", c.Advertise); err != nil {
			return err
		}
	}
	for i, p := range c.Peers {
		if err := checkAddress("peers", p); err != nil {
			return err
		}
		if slices.Contains(c.Peers[:i], p) {
			return messages.Errorf(messages.Invalid, "", "config: cluster: peers: %q is not allowed twice", p)
		}
	}
	return nil
}

func checkAddress(field, address string) error {
	host, port, err := net.SplitHostPort(address)
	n, nerr := strconv.ParseUint(port, 10, 16)
	if err != nil || nerr != nil || host == "" || n == 0 {
		return messages.Errorf(messages.Invalid, "", "config: cluster: %s: %q is not allowed: use host:port, with a port of 1 to 65535", field, address)
	}
	return nil
}

// peers are the servers of a cluster, seen from one of them.
type peers struct {
	ClusterConfig
	name   string
	files  *certs.Files
	self   string   // the address under which the others reach this one
	others []string // none for a server alone
}

// openPeers reads the node's certificates.
func openPeers(cfg Config) (*peers, error) {
	p := &peers{ClusterConfig: cfg.Cluster.withDefaults(), name: cfg.Name}
	var err error
	if p.files, err = certs.Load(p.Certs, p.name); err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(p.Routes) // checked
	p.self = net.JoinHostPort(p.files.Hosts[0], port)
	for _, a := range p.Peers {
		h, pt, _ := net.SplitHostPort(a)
		if pt == port && (h == host || slices.Contains(p.files.Hosts, h)) {
			p.self = a
			continue
		}
		p.others = append(p.others, a)
	}
	if len(p.others) == 1 {
		return nil, messages.Errorf(messages.Invalid, "", "config: cluster: peers: %q make a cluster of two, which is not allowed, for it stands still without either: use three or more, or one", p.Peers)
	}
	listens := map[string]string{"listen": p.Listen}
	if len(p.others) > 0 {
		listens["routes"] = p.Routes
	}
	for field, a := range listens { // the server would only log it, and wait
		l, err := net.Listen("tcp", a)
		if err != nil {
			return nil, messages.Errorf(messages.Unavailable, "", "config: cluster: %s: %w", field, err)
		}
		_ = l.Close()
	}
	return p, nil
}

// credentials are the node's own: its connection inside the process shows its
// key as any other does.
func (p *peers) credentials() Credentials { return Credentials{NKeyFile: p.files.NKeyFile} }

// apply makes the server listen, to those that it knows.
func (p *peers) apply(o *server.Options) {
	o.ServerName, o.DontListen = p.name, false
	o.Host, o.Port = hostPort(p.Listen)
	o.TLS, o.TLSConfig, o.TLSTimeout = true, p.files.Clients, handshakeIn
	o.Nkeys = p.files.Users
	o.PingInterval, o.MaxPingsOut = time.Second, 2 // a frozen client is noticed within 3 s
	if len(p.others) == 0 {
		return
	}
	o.Cluster.Name, o.Cluster.TLSConfig, o.Cluster.TLSTimeout = "covey", p.files.Routes, handshakeIn
	o.Cluster.PingInterval, o.Cluster.MaxPingsOut = time.Second, 2
	o.Cluster.Host, o.Cluster.Port = hostPort(p.Routes)
	o.Cluster.Advertise = p.Advertise
	// This one is among them: the server counts them to know how many have to
	// agree on a first leader, and leaves the route to itself out.
	for _, a := range append([]string{p.self}, p.others...) {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: a})
	}
}

// handshakeIn bounds a TLS handshake, in seconds.
const handshakeIn = 5.0

func hostPort(address string) (string, int) {
	host, port, _ := net.SplitHostPort(address) // checked
	n, _ := strconv.Atoi(port)
	return host, n
}

// ready waits until the servers have a leader, and a journal or all of the
// servers that one is made on.
func (p *peers) ready(ctx context.Context, e *embedded, nc *nats.Conn) error {
	if len(p.others) == 0 {
		return nil
	}
	js, err := jetStream(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyIn)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		tctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		s, err := js.Stream(tctx, journalStream)
		cancel()
		switch {
		case err == nil:
			if c := s.CachedInfo().Cluster; c != nil && c.Leader != "" {
				return nil
			}
		case errors.Is(err, jetstream.ErrStreamNotFound) && p.joined(e) == len(p.others):
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return messages.Errorf(messages.Timeout, "cluster", "%s; the last answer: %v", p.missing(e), err)
		}
	}
}

// joined counts the other servers that this one has routes to.
func (p *peers) joined(e *embedded) int {
	routes, err := e.Routez(nil)
	if err != nil {
		return 0
	}
	names := map[string]bool{}
	for _, r := range routes.Routes {
		names[r.RemoteName] = true
	}
	return len(names)
}

// missing says in words which peers were not reached.
func (p *peers) missing(e *embedded) string {
	var words []string
	for _, a := range p.others {
		c, err := net.DialTimeout("tcp", a, time.Second)
		if err != nil {
			words = append(words, fmt.Sprintf("peer %s is not reached: %v", a, err))
			continue
		}
		_ = c.Close()
	}
	n := p.joined(e)
	if len(words) == 0 && n < len(p.others) {
		words = append(words, "each peer answers, and some do not join: their certificates or their lists of peers differ, as the servers' logs say")
	}
	return fmt.Sprintf("%d of the %d other servers joined in time (%s)", n, len(p.others), strings.Join(append(words, "peers: "+strings.Join(p.others, ", ")), "; "))
}

// checkStore refuses to open the data of a server alone as one of a cluster,
// which would delete its streams, and the other way round. p is nil for a server
// that listens nowhere.
func checkStore(dir string, p *peers) error {
	root := filepath.Join(dir, "jetstream")
	there := func(path ...string) bool {
		_, err := os.Stat(filepath.Join(append([]string{root}, path...)...))
		return err == nil
	}
	clustered := there("$SYS", "_js_", "_meta_")
	switch {
	case p != nil && len(p.others) > 0 && !clustered && there("$G", "streams"):
		return messages.Errorf(messages.Invalid, "", "config: dir: %q is not allowed: it holds the data of a server alone, which cannot become that of a cluster's: use another directory", dir)
	case (p == nil || len(p.others) == 0) && clustered:
		return messages.Errorf(messages.Invalid, "", "config: dir: %q is not allowed without the peers: it holds the data of a server of a cluster: start the node as one, or ask another one by its URL", dir)
	}
	return nil
}
