package cluster

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

var _ provider.Parker = (*parking)(nil)

type parkedReply struct {
	reply *provider.Reply
	err   error
}

// park parks a call and returns its id, and where its answer comes.
func park(t *testing.T, ctx context.Context, p *parking, req provider.Request) (string, chan parkedReply) {
	t.Helper()
	ids := make(chan string, 1)
	p.parked = func(id string, _ provider.ParkedCall) { ids <- id }
	out := make(chan parkedReply, 1)
	go func() {
		r, err := p.Park(ctx, provider.ParkedCall{Ladder: "ollama/big", Request: req, Before: []*messages.Error{{Class: messages.Unavailable, Message: "down"}}})
		out <- parkedReply{r, err}
	}()
	select {
	case id := <-ids:
		return id, out
	case r := <-out:
		t.Fatalf("it did not park: %v %v", r.reply, r.err)
	case <-testCtx(t).Done():
		t.Fatal("it did not park in time")
	}
	return "", nil
}

func question(text string) provider.Request {
	return provider.Request{Messages: []messages.Message{{Role: messages.User, Content: text}}, Session: "run1", Kind: "chat"}
}

func TestAPersonAnswersAParkedCall(t *testing.T) {
	n := startEmbedded(t, t.TempDir(), "")
	ctx := testCtx(t)
	c := must(newClient(ctx, n.nc, 0, nil, nil, func() {}))(t)
	defer c.Close()
	id, out := park(t, ctx, &parking{nc: n.nc}, question("What is the price?"))

	all := must(c.Parked(ctx))(t)
	if len(all) != 1 || all[0].ID != id || all[0].Answer != nil || all[0].Call.Request.Messages[0].Content != "What is the price?" ||
		all[0].Call.Request.Session != "run1" || len(all[0].Call.Before) != 1 || time.Since(all[0].Since) > time.Minute {
		t.Fatalf("%+v", all)
	}
	wantClass(t, c.AnswerParked(ctx, "nobody", "x"), messages.Invalid, "nobody", "covey parked")
	wantClass(t, c.AnswerParked(ctx, id, " "), messages.Invalid, "empty")
	ok(t, c.AnswerParked(ctx, id, "Five euros."))
	r := <-out
	if r.err != nil || r.reply.Message.Content != "Five euros." || r.reply.Stop != messages.StopEnd || r.reply.Model != "person" {
		t.Fatalf("%+v %v", r.reply, r.err)
	}
	wantClass(t, c.AnswerParked(ctx, id, "Six."), messages.Invalid, "answered already")
	if one := must(c.ParkedCall(ctx, id))(t); one.Answer == nil || one.Answer.By != "person" {
		t.Errorf("%+v", one)
	}
	ok(t, c.DropParked(ctx, id))
	if all := must(c.Parked(ctx))(t); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

// A call that is parked again, after a crash, is the same call; an answer that
// came in between is there at once.
func TestAParkedCallSurvivesItsCaller(t *testing.T) {
	n := startEmbedded(t, t.TempDir(), "")
	ctx := testCtx(t)
	c := must(newClient(ctx, n.nc, 0, nil, nil, func() {}))(t)
	defer c.Close()
	req := question("?")
	req.Key = "run1/clerk/1/0"
	first, gone := context.WithCancel(ctx)
	id, out := park(t, first, &parking{nc: n.nc}, req)
	gone()
	if r := <-out; messages.ClassOf(r.err) != messages.Waiting {
		t.Fatalf("%+v", r)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err := (&parking{nc: n.nc}).Park(short, provider.ParkedCall{Request: req})
	wantClass(t, err, messages.Waiting, id)
	if all := must(c.Parked(ctx))(t); len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	ok(t, c.AnswerParked(ctx, id, "42"))
	r := must((&parking{nc: n.nc}).Park(ctx, provider.ParkedCall{Request: req}))(t)
	if r.Message.Content != "42" {
		t.Errorf("%+v", r)
	}
}

func TestAParkedCallIsReplayed(t *testing.T) {
	n := startEmbedded(t, t.TempDir(), "")
	ctx := testCtx(t)
	c := must(newClient(ctx, n.nc, 0, nil, nil, func() {}))(t)
	defer c.Close()
	req := question("?")
	req.Format = json.RawMessage(`{"type":"object","required":["price"]}`)
	id, out := park(t, ctx, &parking{nc: n.nc}, req)
	wantClass(t, c.AnswerParked(ctx, id, "five"), messages.Invalid, "format")

	down := messages.Errorf(messages.Unavailable, "big", "still down")
	_, err := c.ReplayParked(ctx, id, provider.Answer(func(context.Context, *provider.Request) (*provider.Reply, error) { return nil, down }))
	wantClass(t, err, messages.Unavailable, "still down")
	reply := must(c.ReplayParked(ctx, id, provider.Answer(func(_ context.Context, req *provider.Request) (*provider.Reply, error) {
		return &provider.Reply{Message: messages.Message{Role: messages.Assistant, Content: `{"price":5}`}, Model: "big"}, nil
	})))(t)
	if r := <-out; r.err != nil || r.reply.Message.Content != reply.Message.Content || r.reply.Model != "big" {
		t.Errorf("%+v %v", r.reply, r.err)
	}
}
