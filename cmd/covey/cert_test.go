package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/internal/certs"
)

// The folder is made, added to and shown; a node listens with it, and a command
// gets as far there as its key does.
func TestCert(t *testing.T) {
	w := where{dir: t.TempDir()}
	dir := filepath.Join(t.TempDir(), "certs")
	w.run(t, 0, "cert", "init", "--dir", dir, "n1").prints("ca.pem", "n1.nk", "nats.conf")
	w.run(t, 0, "cert", "init", "--dir", dir, "n1").says("there already")
	w.run(t, 0, "cert", "init", "--dir", dir, "n2=n2.example,10.0.0.2").prints("n2.pem")
	w.run(t, 0, "cert", "show", "--dir", dir).prints("authority", "n2.example,10.0.0.2", "observe")
	var all []certs.Shown
	ok(t, json.Unmarshal([]byte(w.run(t, 0, "cert", "show", "--dir", dir, "--json").out.String()), &all))
	if len(all) != 6 {
		t.Errorf("%+v", all)
	}
	w.run(t, 2, "cert", "init", "--dir", dir).says("NAME is missing")
	w.run(t, 1, "cert", "init", "--dir", dir, "submit").says("not allowed")

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	address := ln.Addr().String()
	ok(t, ln.Close())
	ctx, cancel := context.WithTimeout(context.Background(), limit())
	defer cancel()
	n, err := cluster.Start(ctx, cluster.Config{
		Name: "n1", Dir: t.TempDir(), Logger: silent, Cluster: &cluster.ClusterConfig{Listen: address, Certs: dir},
	})
	ok(t, err)
	defer func() { ok(t, n.Stop(ctx)) }()
	_, err = n.Ask(ctx, actors.Agent{Name: "a", Model: "scripted"}, "Well?")
	ok(t, err)
	as := func(role string, args ...string) []string {
		return append(args, "--nats", "tls://"+address, "--ca", filepath.Join(dir, "ca.pem"), "--nkey", filepath.Join(dir, role+".nk"))
	}
	none := where{}
	none.run(t, 0, as("observe", "nodes")...).prints("n1")
	none.run(t, 0, as("observe", "runs")...).prints("Well?")
	none.run(t, 1, as("observe", "node", "drain", "n1")...).says("unauthorized", "covey.nodes.n1.drain")
	none.run(t, 1, "runs", "--nats", "tls://"+address, "--ca", filepath.Join(dir, "ca.pem")).says("refuses these credentials")
	none.run(t, 2, "runs", "--nkey", filepath.Join(dir, "observe.nk")).says("need --nats")
	none.run(t, 2, "runs", "--nats", "tls://"+address, "--cert", "x").says("--cert and --key")
	ok(t, os.Chmod(filepath.Join(dir, "observe.nk"), 0o644))
	p := none.run(t, 1, as("observe", "runs")...).says("0644")
	seed, err := os.ReadFile(filepath.Join(dir, "observe.nk"))
	ok(t, err)
	if strings.Contains(fmt.Sprint(p), string(seed[:12])) {
		t.Error("the seed is printed")
	}
}
