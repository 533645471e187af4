package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	covey "github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/internal/certs"
)

// newCluster makes the processes ready, which start starts. env is the nodes'
// environment.
func newCluster(o Options, env []string) (*cluster, error) {
	c := &cluster{o: o}
	for i := range o.Nodes {
		metrics, err := freePort()
		if err != nil {
			return nil, err
		}
		n := &node{number: i, metrics: loopback(metrics), accident: c.accident}
		n.process = &process{
			name: nodeName(i), log: filepath.Join(o.Dir, nodeName(i)+".log"), env: env,
			argv: []string{
				o.Binary, "serve", "--name=" + nodeName(i), fmt.Sprintf("--max-runs=%d", o.Rooms), "--metrics=" + n.metrics,
			},
		}
		if o.Team != "" {
			n.argv = append(n.argv, "--file="+o.Team)
		}
		for k, pool := range o.Pools {
			if o.Nodes == 1 || i != k%o.Nodes { // elsewhere for the runs of one node
				n.argv = append(n.argv, "--pool="+pool)
			}
		}
		c.nodes = append(c.nodes, n)
	}
	lay := c.external
	if o.Embedded {
		lay = c.embedded
	}
	if err := lay(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// external gives the nodes a NATS server of its own process, each by a way of
// its own.
func (c *cluster) external() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	c.url = "nats://" + loopback(port)
	c.nats = &process{
		name: "nats", log: filepath.Join(c.o.Dir, "nats.log"), env: os.Environ(),
		argv: []string{c.o.Binary, "chaos-nats", fmt.Sprintf("--port=%d", port), "--store=" + filepath.Join(c.o.Dir, "nats")},
	}
	for _, n := range c.nodes {
		way, err := newProxy(loopback(port))
		if err != nil {
			return err
		}
		n.ways = append(n.ways, way)
		n.argv = append(n.argv, "--nats=nats://"+way.addr())
	}
	return nil
}

// nowhere is the address that an embedded server gives to those who hear of it
// from others: nobody can reach it there. Each knows the others by the ways that
// it was told, which can be cut.
const nowhere = "127.0.0.1:1"

// embedded gives each node a server of a cluster, with a way to every other one.
func (c *cluster) embedded() error {
	folder := filepath.Join(c.o.Dir, "certs")
	var specs []certs.Spec
	for _, n := range c.nodes {
		specs = append(specs, certs.Spec{Name: n.name, Hosts: []string{"127.0.0.1"}})
	}
	if _, err := certs.Init(folder, specs, 0); err != nil {
		return err
	}
	c.show = covey.Credentials{NKeyFile: filepath.Join(folder, string(certs.Submit)+".nk"), CA: filepath.Join(folder, certs.CAFile)}
	var urls, routes []string
	for range c.nodes {
		listen, err := freePort()
		if err != nil {
			return err
		}
		route, err := freePort()
		if err != nil {
			return err
		}
		urls, routes = append(urls, "tls://"+loopback(listen)), append(routes, loopback(route))
	}
	c.url = strings.Join(urls, ",")
	for i, n := range c.nodes {
		n.argv = append(n.argv, "--cluster", "--certs="+folder, "--dir="+filepath.Join(c.o.Dir, n.name),
			"--listen="+strings.TrimPrefix(urls[i], "tls://"), "--cluster-listen="+routes[i], "--cluster-advertise="+nowhere)
		for j, other := range c.nodes {
			if i == j {
				continue
			}
			way, err := newProxy(routes[j])
			if err != nil {
				return err
			}
			n.ways, other.ways = append(n.ways, way), append(other.ways, way)
			n.argv = append(n.argv, "--peer="+way.addr())
		}
	}
	return nil
}
