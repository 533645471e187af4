package cluster

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go/micro"

	"github.com/covey-run/covey/actors"
)

// What `nats micro ls`, info and stats ask for, by the service protocol of NATS
// (ADR-32).
func TestNATSSeesTheNodesAsAService(t *testing.T) {
	t.Parallel()
	url, _ := listen(t, t.TempDir(), freePort(t))
	n := onServer(t, url, "n1")
	ctx := testCtx(t)
	must(n.Ask(ctx, actors.Agent{Name: "a", Model: "scripted"}, "Well?"))(t)
	must(n.Client().Nodes(ctx))(t)
	nc := dialURL(t, url)
	ask := func(verb micro.Verb, into any) {
		t.Helper()
		subject := must(micro.ControlSubject(verb, "covey", ""))(t)
		ok(t, json.Unmarshal(must(nc.RequestWithContext(ctx, subject, nil))(t).Data, into))
	}
	var ping micro.Ping
	if ask(micro.PingVerb, &ping); ping.Name != "covey" || ping.Metadata["node"] != "n1" {
		t.Errorf("ping: %+v", ping)
	}
	var info micro.Info
	if ask(micro.InfoVerb, &info); info.ID != ping.ID || info.Description == "" || len(info.Endpoints) == 0 {
		t.Errorf("info: %+v", info)
	}
	var stats micro.Stats
	ask(micro.StatsVerb, &stats)
	asked := 0
	for _, e := range stats.Endpoints {
		if e.Name == "info-all" {
			asked = e.NumRequests
		}
	}
	if asked != 1 {
		t.Errorf("stats: %+v", stats.Endpoints)
	}
}
