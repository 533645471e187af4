package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
)

// clusterFlags make the embedded server of `covey serve` one of several.
type clusterFlags struct {
	on    bool
	peers []string
	cfg   cluster.ClusterConfig
}

func (f *clusterFlags) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVar(&f.on, "cluster", false, "have the embedded server listen, for clients and for the servers of the other nodes; needs --name and --certs")
	fl.StringSliceVar(&f.peers, "peer", nil, "with --cluster: HOST:PORT of another server's --cluster-listen; may be repeated, and may name this one (default: a single server)")
	fl.StringVar(&f.cfg.Listen, "listen", "", "with --cluster: the address for clients (default "+cluster.DefaultListen+")")
	fl.StringVar(&f.cfg.Routes, "cluster-listen", "", "with --cluster: the address for the other servers (default "+cluster.DefaultRoutes+")")
	fl.StringVar(&f.cfg.Advertise, "cluster-advertise", "", "with --cluster: the address at which the other servers tell one another of this one, behind a proxy or in a container (default: --cluster-listen)")
	fl.StringVar(&f.cfg.Certs, "certs", "", "with --cluster: the folder that covey cert init made")
	_ = cmd.MarkFlagDirname("certs")
}

// config is the cluster's configuration, nil for none.
func (f *clusterFlags) config(g *global, name string) (*cluster.ClusterConfig, error) {
	if !f.on {
		for _, set := range [][2]string{{"--peer", fmt.Sprint(len(f.peers))}, {"--listen", f.cfg.Listen}, {"--cluster-listen", f.cfg.Routes}, {"--cluster-advertise", f.cfg.Advertise}, {"--certs", f.cfg.Certs}} {
			if set[1] != "" && set[1] != "0" {
				return nil, fmt.Errorf("%s needs --cluster", set[0])
			}
		}
		return nil, nil
	}
	switch {
	case g.url != "":
		return nil, errors.New("--cluster and --nats exclude each other: with --nats the servers are there already")
	case name == "":
		return nil, errors.New("--cluster needs --name: the name of the node's certificate and key in --certs")
	case f.cfg.Certs == "":
		return nil, errors.New("--cluster needs --certs: the folder that `covey cert init` made")
	}
	cfg := f.cfg
	cfg.Peers = f.peers
	return &cfg, nil
}
