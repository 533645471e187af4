package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
	"github.com/covey-run/covey/messages"
)

// startNodes starts nodes n0, n1, … on one server. They may be killed.
func startNodes(t testing.TB, count int, cfg Config) (nodes []*Node, url string) {
	t.Helper()
	url, _ = listen(t, t.TempDir(), freePort(t))
	for i := range count {
		cfg.URL, cfg.Name = url, fmt.Sprint("n", i)
		cfg.Logger = slog.New(slog.DiscardHandler)
		n := must(Start(testCtx(t), cfg))(t)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = n.Stop(ctx)
		})
		nodes = append(nodes, n)
	}
	return nodes, url
}

// planned is a team whose plan is a function, without a model.
func planned(name string, works func(ctx context.Context, s *actors.Stage) (string, error)) actors.Team {
	return actors.Team{
		Name:    name,
		Members: []actors.Member{actors.Agent{Name: "nobody", Model: "scripted"}},
		Plan: actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
			text, err := works(ctx, s)
			return messages.Answer{Text: text}, err
		}),
	}
}

func heardOf(said []messages.Said) (texts []string) {
	for _, s := range said {
		texts = append(texts, s.From+": "+s.Text)
	}
	return texts
}

// Each task of a session sees all that was said before it, whichever node it is
// on; sessions run side by side.
func TestSessionsOverThreeNodes(t *testing.T) {
	t.Parallel()
	const sessionCount, each = 12, 6
	nodes, _ := startNodes(t, 3, Config{MaxRuns: 4})
	ctx := testCtx(t)
	var mu sync.Mutex
	talking, on := map[string]bool{}, map[string]bool{}
	type meeting struct{ here, there chan struct{} } // two who go on only if they are there at once
	a, b := make(chan struct{}, 9), make(chan struct{}, 9)
	meet := map[string]meeting{"s0/0": {a, b}, "s1/0": {b, a}}
	teamOn := func(node string) actors.Team {
		return planned("team", func(ctx context.Context, s *actors.Stage) (string, error) {
			session, _, _ := strings.Cut(s.Prompt(), "/")
			mu.Lock()
			if talking[session] {
				t.Errorf("two tasks of session %s at once", session)
			}
			talking[session] = true
			on[node] = true
			mu.Unlock()
			if m, is := meet[s.Prompt()]; is {
				m.here <- struct{}{}
				select {
				case <-m.there:
				case <-ctx.Done():
					return "", ctx.Err()
				}
			}
			mu.Lock()
			delete(talking, session)
			mu.Unlock()
			return strings.Join(heardOf(s.Discussion()), ", "), nil
		})
	}
	for i, n := range nodes {
		ok(t, n.Serve(ctx, teamOn(fmt.Sprint("n", i))))
	}
	runs := map[string][]*Run{}
	for k := range each {
		for s := range sessionCount {
			name := fmt.Sprint("s", s)
			at := (s + k) % len(nodes)
			task := messages.Task{Prompt: fmt.Sprintf("%s/%d", name, k), Session: name}
			runs[name] = append(runs[name], must(nodes[at].Submit(ctx, teamOn(nodes[at].Name()), task))(t))
		}
	}
	for name, rs := range runs {
		var said []string
		for k, r := range rs {
			ans := must(r.Wait(ctx))(t)
			if want := strings.Join(said, ", "); ans.Text != want {
				t.Fatalf("task %d of %s heard %q\nwant %q", k, name, ans.Text, want)
			}
			said = append(said, fmt.Sprintf("user: %s/%d", name, k), "team: "+ans.Text)
		}
	}
	if len(on) < 2 {
		t.Errorf("all on %v", on)
	}
}

// The members of every kind of team see the conversation, and so does who reads
// the journal.
func TestMembersSeeTheSession(t *testing.T) {
	ctx := testCtx(t)
	n := startNode(t, Config{})
	member := func(name string) actors.Member { return actors.Agent{Name: name, Role: name, Model: "scripted"} }
	for _, m := range []actors.Member{
		member("alone"),
		actors.Team{Name: "pipe", Plan: plan.Pipeline{}, Members: []actors.Member{member("a"), member("b")}},
		actors.Team{Name: "table", Plan: plan.RoundTable{Rounds: 1}, Members: []actors.Member{member("a"), member("b")}},
	} {
		t.Run(m.MemberName(), func(t *testing.T) {
			var want []messages.Said
			for i := range 3 {
				task := messages.Task{Prompt: fmt.Sprint("question ", i), Session: m.MemberName()}
				r := must(n.Submit(ctx, m, task))(t)
				ans := must(r.Wait(ctx))(t)
				asked := 0
				for _, e := range must(n.client.Read(ctx, r.ID))(t) {
					switch b := e.Body.(type) {
					case *messages.Begun:
						if got := heardOf(b.Task.Discussion); !slices.Equal(got, heardOf(want)) {
							t.Errorf("begun with %q, want %q", got, heardOf(want))
						}
					case *messages.Asked:
						asked++
						if got := heardOf(b.Ask.Discussion); len(got) < len(want) || !slices.Equal(got[:len(want)], heardOf(want)) {
							t.Errorf("%s heard %q, want first %q", b.Ask.To, got, heardOf(want))
						}
					}
				}
				if asked == 0 {
					t.Error("nobody was asked")
				}
				want = append(want, messages.Said{From: "user", Text: task.Prompt}, messages.Said{From: m.MemberName(), Text: ans.Text})
			}
		})
	}
}

// sessionKit is a client and a journal by hand, for what is between two steps.
type sessionKit struct {
	*Client
	t   testing.TB
	ctx context.Context
}

func newSessionKit(t testing.TB) sessionKit {
	t.Helper()
	url, _ := listen(t, t.TempDir(), freePort(t))
	c := must(Open(testCtx(t), Config{URL: url}))(t)
	t.Cleanup(c.Close)
	return sessionKit{c, t, testCtx(t)}
}

func inSession(id, session string) messages.Task {
	return messages.Task{ID: id, Team: "team", Prompt: "why " + id, Session: session}
}

// end writes a run's records as a node does that dies right after.
func (k sessionKit) end(task messages.Task, last messages.Body) {
	k.t.Helper()
	ok(k.t, k.write(k.ctx, task.ID, messages.PlanWriter, "", &messages.Begun{Task: task}))
	ok(k.t, k.write(k.ctx, task.ID, messages.PlanWriter, "", last))
}

func doneWith(text string) *messages.Done { return &messages.Done{Answer: messages.Answer{Text: text}} }

// is compares what is in the queue, what waits, and what was said.
func (k sessionKit) is(session, inQueue, waiting, said string) {
	k.t.Helper()
	var q, w []string
	for _, task := range must(k.queue.waiting(k.ctx))(k.t) {
		q = append(q, task.ID)
	}
	now, _, err := k.waits.read(k.ctx, session)
	ok(k.t, err)
	for _, x := range now.Waiting {
		w = append(w, x.Task.ID)
	}
	got := [3]string{strings.Join(q, " "), strings.Join(w, " "), strings.Join(heardOf(now.Said), ", ")}
	if want := [3]string{inQueue, waiting, said}; got != want {
		k.t.Errorf("queue, session and conversation are %q, want %q", got, want)
	}
}

// A crash between any two steps heals by the redelivery (which settles, and then
// acknowledges) or by the next submit.
func TestASessionHeals(t *testing.T) {
	t1, t2, t3 := inSession("t1", "s"), inSession("t2", "s"), inSession("t3", "s")
	const said = "user: why t1, team: one"
	settled := func(k sessionKit, task messages.Task) {
		k.t.Helper()
		if !must(k.waits.settle(k.ctx, task))(k.t) {
			k.t.Errorf("%s has not ended", task.ID)
		}
	}
	t.Run("submitted, and not in the queue", func(t *testing.T) {
		for name, next := range map[string]messages.Task{"the same again": t1, "another": t2} {
			t.Run(name, func(t *testing.T) {
				k := newSessionKit(t)
				ok(t, k.waits.open(k.ctx))
				ok(t, k.waits.change(k.ctx, "s", func(now *session) (bool, error) {
					now.Waiting = append(now.Waiting, waitingTask{t1, "t1/x"})
					return true, nil
				}))
				k.is("s", "", "t1", "")
				ok(t, k.put(k.ctx, next, ""))
				k.is("s", "t1", strings.TrimSpace("t1 "+strings.TrimPrefix(next.ID, "t1")), "")
			})
		}
	})
	t.Run("ended, and not settled", func(t *testing.T) {
		for name, heal := range map[string]func(sessionKit){
			"redelivery": func(k sessionKit) { settled(k, t1) },
			"submit":     func(k sessionKit) { ok(t, k.put(k.ctx, t2, "")) },
			"purge":      func(k sessionKit) { ok(t, k.Purge(k.ctx, "t1")) },
		} {
			t.Run(name, func(t *testing.T) {
				k := newSessionKit(t)
				ok(t, k.put(k.ctx, t1, ""))
				ok(t, k.put(k.ctx, t2, ""))
				k.is("s", "t1", "t1 t2", "")
				k.end(t1, doneWith("one"))
				heal(k)
				inQueue := "t1 t2" // t1 is not acknowledged
				if name == "purge" {
					inQueue = "t2"
				}
				k.is("s", inQueue, "t2", said)
				heal(k2(k, name)) // again: nothing changes
				k.is("s", inQueue, "t2", said)
			})
		}
	})
	t.Run("settled, and the next not in the queue", func(t *testing.T) {
		k := newSessionKit(t)
		ok(t, k.put(k.ctx, t1, ""))
		ok(t, k.put(k.ctx, t2, ""))
		k.end(t1, doneWith("one"))
		must(k.waits.close(k.ctx, t1))(t)
		k.is("s", "t1", "t2", said)
		settled(k, t1) // t1 is not acknowledged, and comes again
		k.is("s", "t1 t2", "t2", said)
		settled(k, t1)
		k.is("s", "t1 t2", "t2", said)
		if q := must(k.queue.find(k.ctx, t2))(t); len(q) != 1 || !slices.Equal(heardOf(q[0].Discussion), []string{"user: why t1", "team: one"}) {
			t.Errorf("%+v", q)
		}
	})
	t.Run("ended, acknowledged by mistake", func(t *testing.T) {
		k := newSessionKit(t)
		ok(t, k.put(k.ctx, t1, ""))
		k.end(t1, doneWith("one"))
		ok(t, k.queue.remove(k.ctx, must(k.queue.find(k.ctx, t1))(t)))
		ok(t, k.put(k.ctx, t2, ""))
		ok(t, k.put(k.ctx, t1, "")) // it has ended: it does not join again
		k.is("s", "t2", "t2", said)
	})
	t.Run("failed", func(t *testing.T) {
		k := newSessionKit(t)
		for _, task := range []messages.Task{t1, t2, t3} {
			ok(t, k.put(k.ctx, task, ""))
		}
		k.end(t1, &messages.Failed{Error: messages.Errorf(messages.Budget, "", "spent")})
		settled(k, t1)
		k.is("s", "t1 t2", "t2 t3", "")
	})
	t.Run("opened again before it was settled", func(t *testing.T) {
		k := newSessionKit(t)
		ok(t, k.put(k.ctx, t1, ""))
		k.end(t1, &messages.Failed{Error: messages.Errorf(messages.Budget, "", "spent")})
		ok(t, k.write(k.ctx, "t1", messages.PlanWriter, "", &messages.Reopened{}))
		if must(k.waits.settle(k.ctx, t1))(t) {
			t.Error("it has not ended")
		}
		ok(t, k.put(k.ctx, t1, "again"))
		k.is("s", "t1", "t1", "")
	})
	t.Run("opened again afterwards", func(t *testing.T) {
		k := newSessionKit(t)
		ok(t, k.put(k.ctx, t1, ""))
		ok(t, k.put(k.ctx, t2, ""))
		k.end(t1, &messages.Failed{Error: messages.Errorf(messages.Budget, "", "spent")})
		ok(t, k.conclude(k.ctx, t1))
		ok(t, k.write(k.ctx, "t1", messages.PlanWriter, "", &messages.Reopened{}))
		ok(t, k.put(k.ctx, t1, "again"))
		k.is("s", "t2", "t2 t1", "") // behind what runs
		k.end(t2, doneWith("two"))
		ok(t, k.conclude(k.ctx, t2))
		k.is("s", "t1", "t1", "user: why t2, team: two")
	})
}

// k2 is the kit for the second time: what was purged is no run any more.
func k2(k sessionKit, how string) sessionKit {
	if how == "purge" {
		k.end(inSession("t1", "s"), doneWith("one"))
	}
	return k
}

// Tasks that wait in a session are runs like any other.
func TestWaitingInASessionShows(t *testing.T) {
	k := newSessionKit(t)
	ctx := k.ctx
	tasks := []messages.Task{inSession("t1", "s"), inSession("t2", "s"), inSession("t3", "s")}
	for i := range tasks {
		tasks[i].Submitted = now()
		ok(t, k.put(ctx, tasks[i], ""))
	}
	infos := must(k.Runs(ctx))(t)
	if len(infos) != 3 || infos[1].Run != "t2" || infos[1].State != messages.RunQueued || infos[1].Prompt != "why t2" {
		t.Errorf("%+v", infos)
	}
	if info := must(k.Run(ctx, "t3"))(t); info.State != messages.RunQueued {
		t.Errorf("%+v", info)
	}
	if task := must(k.Task(ctx, "t3"))(t); task.Session != "s" {
		t.Errorf("%+v", task)
	}
	wantClass(t, k.Purge(ctx, "t2"), messages.Invalid, "queued")
	ok(t, k.Cancel(ctx, "t2", "no"))
	k.is("s", "t1", "t1 t3", "")
	ok(t, k.Cancel(ctx, "t1", "no"))
	k.is("s", "t3", "t3", "")
	ok(t, k.Purge(ctx, "t2"))
	_, err := k.Run(ctx, "t2")
	wantClass(t, err, messages.Invalid, "is not there")
}

func TestASessionIsBounded(t *testing.T) {
	k := newSessionKit(t)
	ok(t, k.waits.open(k.ctx))
	fill := func(n int, prompt string) {
		t.Helper()
		ok(t, k.waits.change(k.ctx, "s", func(now *session) (bool, error) {
			now.Waiting = nil
			for i := range n {
				w := waitingTask{Task: inSession(fmt.Sprint("w", i), "s")}
				w.Task.Prompt = prompt
				now.Waiting = append(now.Waiting, w)
			}
			return true, nil
		}))
	}
	fill(maxWaiting-1, "")
	ok(t, k.put(k.ctx, inSession("last", "s"), ""))
	ok(t, k.put(k.ctx, inSession("last", "s"), "")) // it is there
	wantClass(t, k.put(k.ctx, inSession("more", "s"), ""), messages.Throttled, "session s", "1000")
	fill(9, strings.Repeat("x", 100_000))
	wantClass(t, k.put(k.ctx, messages.Task{ID: "more", Team: "team", Prompt: strings.Repeat("x", 100_000), Session: "s"}, ""), messages.Throttled, "session s", "bytes")

	var s session
	for i := range 40 {
		s.say(messages.Said{From: "user", Text: fmt.Sprint(i, strings.Repeat("q", 3000))}, messages.Said{From: "team", Text: "a"})
	}
	if first := s.Said[0]; len(s.Said)%2 != 0 || len(s.Said) < 30 || first.From != "user" || !strings.HasPrefix(s.Said[len(s.Said)-2].Text, "39q") {
		t.Errorf("%d said, from %.20q", len(s.Said), first.Text)
	}
	s.say(messages.Said{From: "user", Text: "q"}, messages.Said{From: "team", Text: strings.Repeat("a", maxSaid)})
	if len(s.Said) != 0 {
		t.Errorf("%d said", len(s.Said))
	}
}

func TestTasksAreChecked(t *testing.T) {
	good := inSession("t1", "s")
	ok(t, checkTask(good))
	for field, spoil := range map[string]func(*messages.Task){
		"id":       func(t *messages.Task) { t.ID = "a b" },
		"team":     func(t *messages.Task) { t.Team = "" },
		"priority": func(t *messages.Task) { t.Priority = "urgent" },
		"queue":    func(t *messages.Task) { t.Queue = "a.b" },
		"session":  func(t *messages.Task) { t.Session = "*" },
	} {
		bad := good
		spoil(&bad)
		wantClass(t, checkTask(bad), messages.Invalid, "task", field)
	}
	bad := good
	bad.Session = "-"
	wantClass(t, checkTask(bad), messages.Invalid, "session", `"-"`)
	for _, run := range []string{"x", strings.Repeat("x", 64)} {
		ok(t, messages.CheckName("queue", OwnQueue(run)))
	}
}

// A node that dies in the middle of a session's task: another one does it again,
// from the journal, and the session goes on.
func TestANodeDiesInMidSession(t *testing.T) {
	t.Parallel()
	nodes, _ := startNodes(t, 2, Config{})
	ctx := testCtx(t)
	begun := make(chan string, 10)
	free := make(chan struct{})
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
			return strings.Join(heardOf(s.Discussion()), ", "), nil
		})
	}
	defer close(free)
	ok(t, nodes[0].Serve(ctx, teamOn("n0")))
	var ids []string
	for i := range 3 {
		task := messages.Task{ID: fmt.Sprint("t", i), Team: "team", Queue: "team", Prompt: fmt.Sprint(i), Session: "s"}
		ok(t, nodes[1].client.put(ctx, task, ""))
		ids = append(ids, task.ID)
	}
	if on := <-begun; on != "n0" {
		t.Fatal(on)
	}
	nodes[0].nc.Close()
	ok(t, nodes[1].Serve(ctx, teamOn("n1")))
	var said []string
	for i, id := range ids {
		r := must(nodes[1].Submit(ctx, teamOn("n1"), messages.Task{ID: id, Prompt: fmt.Sprint(i), Session: "s"}))(t)
		ans := must(r.Wait(ctx))(t)
		if ans.Text != strings.Join(said, ", ") {
			t.Errorf("task %d heard %q, want %q", i, ans.Text, said)
		}
		said = append(said, fmt.Sprint("user: ", i), "team: "+ans.Text)
	}
}
