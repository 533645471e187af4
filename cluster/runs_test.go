package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
)

func begun(run string) *messages.Begun {
	return &messages.Begun{Task: messages.Task{ID: run, Team: "team", Prompt: "why " + run}}
}

func write(t testing.TB, w actors.Writer, step string, bodies ...messages.Body) {
	t.Helper()
	for _, b := range bodies {
		must(w.Append(testCtx(t), step, b))(t)
	}
}

func TestRunsTellsWhereEachStands(t *testing.T) {
	j, _ := startJournal(t)
	ctx := testCtx(t)
	start := func(run, node string) *writer {
		w := claim(t, j, run, "plan", node)
		write(t, w, "", begun(run))
		return w
	}
	intent := func(e messages.Effect) *messages.Intent {
		return &messages.Intent{Tool: messages.ToolCall{Name: "mail"}, Effect: e}
	}
	failed := &messages.Failed{Error: messages.Errorf(messages.Budget, "", "spent")}

	write(t, start("done", "up"), "", &messages.Modeled{}, &messages.Done{Answer: messages.Answer{Text: "42", Steps: 7}})
	write(t, start("failed", "down"), "", &messages.Modeled{}, &messages.Result{}, failed)
	write(t, start("reopened", "up"), "", failed, &messages.Reopened{})
	write(t, start("running", "up"), "s", &messages.Modeled{}, intent(messages.Unsafe)) // the tool runs now
	write(t, start("interrupted", "down"), "s", intent(messages.Pure))
	write(t, start("cutoff", "down"), "s", intent(messages.Unsafe))
	start("waiting", "up")
	write(t, claim(t, j, "waiting", "m", "down"), "s", intent(messages.Unsafe), &messages.Intent{Call: 1, Effect: messages.Pure})
	write(t, claim(t, j, "waiting", "m", "up"), "s", &messages.Result{Call: 1}) // resumed: it settled one of the two

	infos := must(j.Runs(ctx, func(c messages.Claim) bool { return c.Node == "up" }))(t)
	want := []struct {
		run       string
		state     messages.RunState
		node      string
		steps     int
		unsettled int
	}{
		{"done", messages.RunDone, "up", 7, 0},
		{"failed", messages.RunFailed, "down", 2, 0},
		{"reopened", messages.RunRunning, "up", 0, 0},
		{"running", messages.RunRunning, "up", 1, 1},
		{"interrupted", messages.RunInterrupted, "down", 0, 1},
		{"cutoff", messages.RunWaiting, "down", 0, 1},
		{"waiting", messages.RunWaiting, "up", 1, 1},
	}
	if len(infos) != len(want) {
		t.Fatalf("%d runs, want %d", len(infos), len(want))
	}
	for i, w := range want {
		got := infos[i]
		if got.Run != w.run || got.State != w.state || got.Node != w.node || got.Steps != w.steps || len(got.Unsettled) != w.unsettled {
			t.Errorf("got %+v\nwant %+v", got, w)
		}
		if got.Prompt != "why "+w.run || got.Team != "team" || got.Started.IsZero() || got.Last.Before(got.Started) {
			t.Errorf("%+v", got)
		}
	}
	if a := infos[0].Answer; a == nil || a.Text != "42" {
		t.Errorf("answer %+v", a)
	}
	if e := infos[1].Error; e == nil || e.Class != messages.Budget {
		t.Errorf("error %v", e)
	}
	_, err := j.Info(ctx, "nobody", func(messages.Claim) bool { return true })
	wantClass(t, err, messages.Invalid, "run nobody")
}

// A long list takes a few records of each run, and no consumer.
func TestRunsOfHundreds(t *testing.T) {
	j, n := startJournal(t)
	const runs = 500
	fillRuns(t, n.nc, runs, 10)
	ctx := testCtx(t)
	start := time.Now()
	infos := must(j.Runs(ctx, func(messages.Claim) bool { return true }))(t)
	t.Logf("%d runs of 10 records listed in %v", runs, time.Since(start))
	if len(infos) != runs {
		t.Errorf("%d runs of %d", len(infos), runs)
	}
	for _, i := range infos {
		if i.State != messages.RunDone || i.Node != "n1" {
			t.Fatalf("%+v", i)
		}
	}
	if c := must(j.stream.Info(ctx))(t).State.Consumers; c != 0 {
		t.Errorf("%d consumers left", c)
	}
}

// fillRuns stores finished runs of some records each, for speed without waiting
// for every acknowledgement.
func fillRuns(t testing.TB, nc *nats.Conn, runs, records int) {
	t.Helper()
	put := func(subject, run string, b messages.Body) {
		h, data, err := messages.Encode(messages.Envelope{Run: run, Writer: "plan", Time: now(), Body: b})
		ok(t, err)
		ok(t, nc.PublishMsg(&nats.Msg{Subject: subject, Header: h, Data: data}))
	}
	for r := range runs {
		run := fmt.Sprint("run", r)
		plan := messages.Subject(messages.SubjectRuns, run, "plan")
		put(messages.Subject(messages.SubjectClaims, run, "plan"), run, &messages.Claim{Node: "n1"})
		put(plan, run, begun(run))
		for range records - 2 {
			put(messages.Subject(messages.SubjectRuns, run, "member"), run, said("x"))
		}
		put(plan, run, &messages.Done{})
		if r%200 == 0 {
			ok(t, nc.Flush())
		}
	}
	// An acknowledged publish comes after all of them.
	js := must(jetStream(nc))(t)
	must(js.Publish(testCtx(t), messages.Subject(messages.SubjectClaims, "run0", "plan2"), nil))(t)
}

func TestFollow(t *testing.T) {
	j, _ := startJournal(t)
	ctx := testCtx(t)
	ready := make(chan struct{}, 100)
	steps := make(chan []string)
	go func() {
		var seen []string
		for e, err := range j.Follow(ctx, "r1") {
			if err != nil {
				t.Error(err)
				break
			}
			seen = append(seen, textOf(e))
			ready <- struct{}{}
		}
		steps <- seen
	}()
	// The follower is there first; it meets old records, then new ones.
	w := claim(t, j, "r1", "plan", "n1")
	write(t, w, "", begun("r1"), said("a"))
	<-ready
	<-ready
	write(t, w, "", said("b"))
	<-ready
	write(t, w, "", &messages.Done{})
	if got := fmt.Sprint(<-steps); got != "[begun a b done]" {
		t.Errorf("followed %s", got)
	}

	// A failure that was reopened is not the end; breaking off is.
	w = claim(t, j, "r2", "plan", "n1")
	write(t, w, "", begun("r2"), &messages.Failed{}, &messages.Reopened{}, &messages.Failed{})
	n := 0
	for _, err := range j.Follow(ctx, "r2") {
		ok(t, err)
		n++
	}
	if n != 4 {
		t.Errorf("followed %d of 4 records", n)
	}
	for range j.Follow(ctx, "r2") {
		break
	}

	// ctx's end is the last element.
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	var last error
	for _, err := range j.Follow(short, "nobody") {
		last = err
	}
	wantClass(t, last, messages.Timeout)
}

func TestFollowOverAServerRestart(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), freePort(t)
	url, stop := listen(t, dir, port)
	ctx := testCtx(t)
	j := must(openJournal(ctx, dialURL(t, url), journalOptions{}))(t)
	w := claim(t, j, "r1", "plan", "n1")
	write(t, w, "0", said("x"))
	seen := make(chan string, 100)
	go func() {
		defer close(seen)
		for e, err := range j.Follow(ctx, "r1") {
			if err != nil {
				t.Error(err)
				return
			}
			seen <- e.Step
		}
	}()
	<-seen
	stop()
	_, _ = listen(t, dir, port)
	write(t, w, "1", said("x"))
	if s := <-seen; s != "1" {
		t.Errorf("after the restart came %q", s)
	}
	write(t, w, "2", &messages.Done{})
	if s := <-seen; s != "2" {
		t.Errorf("then came %q", s)
	}
	if s, more := <-seen; more {
		t.Errorf("and then %q", s)
	}
}

// TestRunsTellsWhose is what a list says of a run beside where it stands.
func TestRunsTellsWhose(t *testing.T) {
	j, _ := startJournal(t)
	ctx := testCtx(t)
	own := must(j.Claim(ctx, "r", "plan", messages.Claim{Node: "a", Epoch: 7}))(t)
	b := begun("r")
	b.Task.Session, b.Task.Priority = "s", messages.High
	write(t, own, "", b)
	must(j.Claim(ctx, "r", "near", messages.Claim{Node: "a", Epoch: 7}))(t)
	must(j.Claim(ctx, "r", "far", messages.Claim{Node: "b", Epoch: 9}))(t)
	look := func() messages.RunInfo {
		return must(j.Runs(ctx, func(messages.Claim) bool { return true }))(t)[0]
	}
	i := look()
	if i.Session != "s" || i.Priority != messages.High || i.Queue != "team" || i.Node != "a" || i.Epoch != 7 || len(i.Placed) != 1 || i.Placed["far"] != "b" {
		t.Errorf("%+v", i)
	}
	write(t, own, "", &messages.Done{})
	if i = look(); i.Session != "s" || i.Queue != "team" || i.Epoch != 7 || i.State != messages.RunDone {
		t.Errorf("%+v", i)
	}
}

// TestRetryVoidsTheIntent: a person says that a call never happened, and it is
// cut off again.
func TestRetryVoidsTheIntent(t *testing.T) {
	j, _ := startJournal(t)
	ctx := testCtx(t)
	nobody := func(messages.Claim) bool { return false }
	in := &messages.Intent{Tool: messages.ToolCall{Name: "mail"}}
	w := claim(t, j, "r", "plan", "a")
	write(t, w, "", begun("r"))
	for _, c := range []struct {
		body messages.Body
		open int
		is   messages.RunState
	}{
		{in, 1, messages.RunWaiting},
		{&messages.Resolve{Retry: true}, 0, messages.RunInterrupted},
		{in, 1, messages.RunWaiting},
		{&messages.Result{}, 0, messages.RunInterrupted},
	} {
		write(t, w, "s", c.body)
		if i := must(j.Info(ctx, "r", nobody))(t); i.State != c.is || len(i.Unsettled) != c.open {
			t.Errorf("after a %s: %+v", messages.KindOf(c.body), i)
		}
	}
}
