package main

import (
	"encoding/json"
	"log/slog"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/teamfile"
)

// silent is the logger of a command: what matters comes as an error, or as a line
// of progress, and the store's notes on a crash are no news.
var silent = slog.New(slog.DiscardHandler)

// config is a node's configuration for one team file.
func (g *global) config(f teamfile.File) cluster.Config {
	return cluster.Config{
		Dir: g.dir, URL: g.url, Credentials: g.show, Version: version,
		Load:     load,
		Models:   f.Models(),
		Settings: provider.Levels{File: f.Level()},
		Routers:  f.Routers,
		Metrics:  g.metrics, MetricsToken: metricsToken(),
		Logger: silent,
	}
}

// load makes the team of a definition in the journal.
func load(definition json.RawMessage) (actors.Member, error) {
	f, err := teamfile.ParseDefinition(definition)
	if err != nil {
		return nil, err
	}
	return f.Team(teamfile.Options{})
}
