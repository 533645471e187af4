package cluster_test

import (
	"strings"
	"testing"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

// B10: a turn whose conversation does not fit the model goes on with half of it,
// once.
func TestTurnHalvesItsHistory(t *testing.T) {
	for question, want := range map[string]messages.Class{
		strings.Repeat("word ", 30):  "",
		strings.Repeat("word ", 100): messages.ContextLength,
	} {
		model := scripted.Of(
			scripted.Rule{
				When: scripted.When{Match: func(r *provider.Request) bool {
					return len(r.Messages[len(r.Messages)-1].Content) > 100
				}},
				Reply: scripted.Reply{Fail: &scripted.Failure{Class: messages.ContextLength}},
			},
			scripted.Rule{Reply: scripted.Reply{Text: "done"}},
		)
		n := start(t, cluster.Config{Models: map[string]provider.Factory{"scripted": func(string) (provider.Model, error) { return model, nil }}})
		ans, err := n.Ask(testContext(t), actors.Agent{Name: "reader", Model: "scripted"}, question)
		if messages.ClassOf(err) != want || err == nil && ans.Text != "done" || len(model.Calls()) != 2 {
			t.Errorf("%d bytes: answer %+v, error %v, %d calls", len(question), ans, err, len(model.Calls()))
		}
	}
}
