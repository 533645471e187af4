package cluster

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
)

// A newer program has put in a task, and has begun another's run. A node refuses
// both, says so once, shows them with the reason, and leaves them in the queue. As
// soon as somebody can read them, both come to their end.
func TestWhatANewerProgramWroteIsLeftToOthers(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	log := &lines{}
	url, _ := listen(t, t.TempDir(), freePort(t))
	n := startNode(t, Config{URL: url, Name: "old", Logger: slog.New(slog.NewTextHandler(log, nil))})
	team := planned("team", func(context.Context, *actors.Stage) (string, error) { return "done", nil })

	q, j := n.client.queue, n.client.journal
	tomorrow := nats.Header{messages.HeaderVersion: {"99"}, messages.HeaderKind: {"task"}, messages.HeaderRun: {"tomorrow"}}
	put := must(q.js.PublishMsg(ctx, &nats.Msg{Subject: taskSubject(task("tomorrow")), Header: tomorrow, Data: []byte(`{"mission":[]}`)}))(t)
	begun := task("begun")
	must(claim(t, j, "begun", messages.PlanWriter, "new").Append(ctx, "", &messages.Begun{Task: begun}))(t)
	telepathy := nats.Header{messages.HeaderVersion: {"1"}, messages.HeaderKind: {"telepathy"}, messages.HeaderRun: {"begun"}, messages.HeaderWriter: {"plan"}}
	record := must(j.js.PublishMsg(ctx, &nats.Msg{Subject: "covey.runs.begun.plan", Header: telepathy, Data: []byte("{}")}))(t)
	must(q.submit(ctx, begun))(t)
	ok(t, n.Serve(ctx, team))

	const task, run = `the task of run \"tomorrow\"`, `unknown kind: \"telepathy\"`
	for log.count(task) == 0 || log.count(run) == 0 {
		pause(ctx, t, "both are refused", log)
	}
	if log.count(task, "unknown schema version: 99", "knows up to 1", "left to a newer node") != 1 || log.count("run begun", run, "a newer node can read it") != 1 {
		t.Errorf("the log:\n%s", log)
	}
	infos := must(n.client.Runs(ctx))(t)
	for _, want := range []struct {
		run, team, node string
		words           string
	}{{"tomorrow", "", "", "version: 99"}, {"begun", "team", "new", `kind: "telepathy"`}} {
		i := slices.IndexFunc(infos, func(i messages.RunInfo) bool { return i.Run == want.run })
		if i < 0 {
			t.Errorf("%s is not in the list: %+v", want.run, infos)
			continue
		}
		if got := infos[i]; got.State != messages.RunNewer || got.Team != want.team || got.Node != want.node || got.Queue != "team" ||
			got.Error == nil || !strings.Contains(got.Error.Message, want.words) {
			t.Errorf("in the list: %+v", got)
		}
		info, err := n.client.Run(ctx, want.run)
		wantClass(t, err, messages.Unavailable, want.run, want.words)
		if info.State != messages.RunNewer || info.Error == nil {
			t.Errorf("shown: %+v", info)
		}
		_, err = n.client.Submit(ctx, messages.Task{ID: want.run, Team: "team", Prompt: "why?"})
		wantClass(t, err, messages.Unavailable, want.words)
		wantClass(t, n.client.Cancel(ctx, want.run, ""), messages.Unavailable, want.words)
		wantClass(t, n.client.Purge(ctx, want.run), messages.Unavailable, want.words)
	}

	// They come again, and nothing is said anew.
	c := must(q.js.Consumer(ctx, taskStream, "covey-team-normal"))(t)
	for must(c.Info(ctx))(t).Delivered.Consumer < 4 {
		pause(ctx, t, "both have come again", log)
	}
	for must(c.Info(ctx))(t).NumAckPending != 2 {
		pause(ctx, t, "both are put off", log)
	}
	if log.count(task) != 1 || log.count(run) != 1 {
		t.Errorf("said more than once:\n%s", log)
	}
	if last := must(j.last(ctx, "covey.claims.begun.plan"))(t); last.Body.(*messages.Claim).Node != "new" {
		t.Errorf("the refusing node has claimed the run: %+v", last)
	}

	// What a newer node would read is put in words that this one knows.
	ok(t, deleteMsg(ctx, n.nc, taskStream, put.Sequence))
	must(q.submit(ctx, messages.Task{ID: "tomorrow", Team: "team", Prompt: "why?"}))(t)
	ok(t, deleteMsg(ctx, n.nc, journalStream, record.Sequence))
	for _, run := range []string{"tomorrow", "begun"} {
		var last messages.Body
		for e, err := range n.client.Records(ctx, run) {
			ok(t, err)
			last = e.Body
		}
		if d, is := last.(*messages.Done); !is || d.Answer.Text != "done" {
			t.Errorf("%s: %+v", run, last)
		}
	}
}

func pause(ctx context.Context, t *testing.T, what string, log *lines) {
	t.Helper()
	select {
	case <-time.After(10 * time.Millisecond):
	case <-ctx.Done():
		t.Fatalf("never: %s\n%s", what, log)
	}
}
