package cluster

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
)

// A run whose node is gone, and whose task is in a queue that nobody serves, is
// moved to where it is resumed; a run whose owner lives is only waited for.
func TestResumeMovesATask(t *testing.T) {
	t.Parallel()
	for _, session := range []string{"", "s"} {
		t.Run("session "+session, func(t *testing.T) {
			nodes, _ := startNodes(t, 3, Config{})
			ctx := testCtx(t)
			begun, free := make(chan string, 10), make(chan struct{})
			defer close(free)
			teamOn := func(node string) actors.Team {
				return planned("team", func(ctx context.Context, s *actors.Stage) (string, error) {
					begun <- node
					if node == "n0" {
						select {
						case <-free:
						case <-ctx.Done():
							return "", ctx.Err()
						}
					}
					return "by " + node, nil
				})
			}
			must(nodes[0].Submit(ctx, teamOn("n0"), messages.Task{ID: "r", Prompt: "?", Session: session}))(t)
			<-begun
			waits := must(nodes[1].Resume(ctx, "r", teamOn("n1")))(t)
			if q := nodes[1].queue.serves(); len(q) != 0 {
				t.Errorf("it serves %v", q)
			}
			nodes[0].nc.Close()
			mover := must(nodes[2].Resume(ctx, "r", teamOn("n2")))(t)
			for _, r := range []*Run{mover, waits} {
				if ans := must(r.Wait(ctx))(t); ans.Text != "by n2" {
					t.Errorf("%+v", ans)
				}
			}
			for !must(allDone(ctx, nodes[2]))(t) { // ctx bounds it
			}
			if s, _, err := nodes[2].client.waits.read(ctx, "s"); err != nil || len(s.Waiting) != 0 {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

// A node that loads definitions works on teams that it was not given.
func TestServeDefined(t *testing.T) {
	ctx := testCtx(t)
	wantClass(t, startNode(t, Config{}).ServeDefined(ctx), messages.Invalid, "load", messages.DefinedQueue)
	n := startNode(t, Config{Load: func(d json.RawMessage) (actors.Member, error) {
		return planned("team", func(context.Context, *actors.Stage) (string, error) { return string(d), nil }), nil
	}})
	ok(t, n.ServeDefined(ctx))
	task := must(n.client.Submit(ctx, messages.Task{Team: "team", Prompt: "?", Definition: json.RawMessage(`{"a":1}`)}))(t)
	for e, err := range n.client.Records(ctx, task.ID) {
		ok(t, err)
		if d, is := e.Body.(*messages.Done); is && d.Answer.Text != `{"a":1}` {
			t.Errorf("%+v", d)
		}
	}
}
