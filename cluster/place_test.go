package cluster

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/messages"
)

// homeNode is a node of a cluster whose teams are all tm, and its model "m".
func homeNode(t *testing.T, url, name string, pools []string, tm actors.Member, rules ...scripted.Rule) (*Node, *scripted.Model) {
	t.Helper()
	quick := leaseTimes{TTL: 3 * time.Second, Renew: 100 * time.Millisecond, Ping: 50 * time.Millisecond, Grace: 200 * time.Millisecond}
	return homeNodeFor(t, quick, url, name, pools, tm, rules...)
}

// homeNodeFor is homeNode with leases of those times.
func homeNodeFor(t *testing.T, times leaseTimes, url, name string, pools []string, tm actors.Member, rules ...scripted.Rule) (*Node, *scripted.Model) {
	t.Helper()
	m := scripted.Of(rules...)
	n := must(Start(testCtx(t), Config{
		URL: url, Name: name, Pools: pools, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Models: map[string]provider.Factory{"m": func(string) (provider.Model, error) { return m, nil }},
		Load:   func(json.RawMessage) (actors.Member, error) { return tm, nil },
		lease:  times,
	}))(t)
	t.Cleanup(func() {
		m.Release()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = n.Stop(ctx) // a node that was cut off says so
	})
	return n, m
}

func onGPU(definition string) actors.Team {
	return actors.Team{
		Name: "team", Plan: plan.Pipeline{}, Definition: json.RawMessage(definition),
		Members: []actors.Member{actors.Agent{Name: "x", Model: "m", Pool: "gpu"}},
	}
}

func TestMemberLivesOnARealNodeOfItsPool(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	tm := onGPU(`{}`)
	owner, none := homeNode(t, url, "owner", nil, tm)
	run := must(owner.Submit(testCtx(t), tm, messages.Task{ID: "r", Prompt: "?"}))(t)
	// It joins while the member waits for it.
	_, m := homeNode(t, url, "gpu1", []string{"gpu"}, tm, scripted.Rule{Reply: scripted.Reply{Text: "from afar"}})
	ans, err := run.Wait(testCtx(t))
	ok(t, err)
	if ans.Text != "from afar" || ans.Steps != 1 || ans.Usage.Calls != 1 || m.Count() != 1 || none.Count() != 0 {
		t.Errorf("%+v, %d and %d calls", ans, m.Count(), none.Count())
	}
	claims := must(owner.client.journal.claims(testCtx(t), "r"))(t)
	if claims["plan"].Node != "owner" || claims["x"].Node != "gpu1" || claims["x"].Epoch == 0 {
		t.Errorf("%+v", claims)
	}
}

func TestMemberGoesOnWhenItsRealHomeDies(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	tm := onGPU(`{}`)
	called := make(chan struct{})
	once := sync.OnceFunc(func() { close(called) })
	owner, _ := homeNode(t, url, "owner", nil, tm)
	first, _ := homeNode(t, url, "gpu1", []string{"gpu"}, tm, scripted.Rule{
		When: scripted.When{Match: func(*provider.Request) bool { once(); return true }}, Reply: scripted.Reply{Hang: scripted.HangForever},
	})
	run := must(owner.Submit(testCtx(t), tm, messages.Task{ID: "r", Prompt: "?"}))(t)
	<-called
	homeNode(t, url, "gpu2", []string{"gpu"}, tm, scripted.Rule{Reply: scripted.Reply{Text: "from gpu2"}})
	first.nc.Close()
	ans, err := run.Wait(testCtx(t))
	ok(t, err)
	if ans.Text != "from gpu2" || ans.Restarts != 1 || ans.Steps != 1 {
		t.Errorf("%+v", ans)
	}
}

func TestMemberMovesWhenItsRealHomeIsDrained(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	tm := onGPU(`{}`)
	owner, _ := homeNode(t, url, "owner", nil, tm)
	called := make(chan struct{})
	once := sync.OnceFunc(func() { close(called) })
	home, m := homeNode(t, url, "gpu1", []string{"gpu"}, tm, scripted.Rule{
		When: scripted.When{Match: func(*provider.Request) bool { once(); return true }}, Reply: scripted.Reply{Hang: scripted.HangForever, Text: "too short"},
	})
	run := must(owner.Submit(testCtx(t), tm, messages.Task{ID: "r", Prompt: "?"}))(t)
	<-called
	homeNode(t, url, "gpu2", []string{"gpu"}, tm)
	stopped := make(chan error, 1)
	go func() { stopped <- home.Stop(testCtx(t)) }()
	for !home.self().Draining {
		time.Sleep(time.Millisecond)
	}
	m.Release()
	ok(t, <-stopped)
	ans, err := run.Wait(testCtx(t))
	ok(t, err)
	if ans.Text != "too short" || ans.Restarts != 0 || ans.Steps != 1 {
		t.Errorf("%+v", ans)
	}
}

// An owner whose run is another's by now gets no home for its members.
func TestPlaceOfAnOldOwnerIsRefused(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	tm := onGPU(`{}`)
	owner, _ := homeNode(t, url, "owner", nil, tm)
	home, _ := homeNode(t, url, "gpu1", []string{"gpu"}, tm)
	ctx := testCtx(t)
	_, err := owner.client.journal.Claim(ctx, "r", messages.PlanWriter, messages.Claim{Node: "heir", Epoch: 7})
	ok(t, err)
	p := messages.Place{Owner: owner.cluster.Self().Owner(), Task: messages.Task{ID: "r", Team: "team"}, Member: "x", Incarnation: 1}
	wantClass(t, owner.cluster.Place(ctx, "gpu1", p), messages.Fenced, "heir~7")
	p.Known = true
	wantClass(t, owner.cluster.Place(ctx, "gpu1", p), messages.Unavailable, "does not live here")
	wantClass(t, owner.cluster.Place(ctx, "nobody", p), messages.Unavailable)
	if home.rt.Guests() != 0 {
		t.Error("a guest")
	}
}

// translator is a program that serves members with a plain NATS client.
type translator struct {
	nc  *nats.Conn
	got chan *nats.Msg
}

func newTranslator(t *testing.T, url string) *translator {
	t.Helper()
	p := &translator{nc: must(nats.Connect(url))(t), got: make(chan *nats.Msg, 100)}
	t.Cleanup(p.nc.Close)
	_, err := p.nc.Subscribe("covey.members.translator", func(m *nats.Msg) {
		_ = m.Respond([]byte("+OK"))
		p.got <- m
	})
	ok(t, err)
	ok(t, p.nc.Flush())
	return p
}

// reply answers an ask, and returns what the node says to that.
func (p *translator) reply(t *testing.T, ask *nats.Msg, body string) string {
	t.Helper()
	var a struct{ From string }
	ok(t, json.Unmarshal(ask.Data, &a))
	m := nats.NewMsg("covey.bus." + ask.Header.Get("Covey-Run") + "." + a.From)
	m.Header.Set("Covey-Version", "1")
	m.Header.Set("Covey-Kind", "reply")
	m.Header.Set("Covey-Writer", ask.Header.Get("Covey-Writer"))
	m.Data = []byte(body)
	return string(must(p.nc.RequestMsg(m, 10*time.Second))(t).Data)
}

func TestProgramServesAMember(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	tm := actors.Team{Name: "team", Plan: plan.Pipeline{}, Members: []actors.Member{
		actors.Agent{Name: "x", Model: "m"}, actors.Agent{Name: "y", External: "translator"},
	}}
	n, _ := homeNode(t, url, "n", nil, tm, scripted.Rule{Reply: scripted.Reply{Text: "hello"}})
	sub := n.Events().Subscribe(1000, func(ev messages.Event) bool { return ev.Kind == messages.TurnParked })
	defer sub.Close()
	run := must(n.Submit(testCtx(t), tm, messages.Task{ID: "r", Prompt: "?"}))(t)
	ev := <-sub.C // no program is there
	if ev.Name != "translator" || ev.Class != messages.Unavailable || ev.Path != "y" {
		t.Errorf("%+v", ev)
	}
	p := newTranslator(t, url)
	ask := <-p.got
	if h := ask.Header; h.Get("Covey-Kind") != "ask" || h.Get("Covey-Run") != "r" || h.Get("Covey-Step") != "2" {
		t.Errorf("%v", ask.Header)
	}
	if r := p.reply(t, ask, `nonsense`); r == "+OK" {
		t.Errorf("a reply that cannot be read is taken: %s", r)
	}
	// A word to a step that nobody asked, and one in another owner's name.
	p.reply(t, ask, `{"step": "9", "answer": {"text": "wrong"}}`)
	stale := &nats.Msg{Header: nats.Header{"Covey-Run": {"r"}, "Covey-Writer": {"heir~9"}}, Data: ask.Data}
	p.reply(t, stale, `{"step": "2", "answer": {"text": "stale"}}`)
	good := `{"step": "2", "answer": {"text": "bonjour", "model": "by hand"}}`
	if r := p.reply(t, ask, good); r != "+OK" {
		t.Error(r)
	}
	ans, err := run.Wait(testCtx(t))
	ok(t, err)
	if ans.Text != "bonjour" || ans.By != "y" || ans.Steps != 1 {
		t.Errorf("%+v", ans)
	}
	claims := must(n.client.journal.claims(testCtx(t), "r"))(t)
	if claims["y"].Node != "n" {
		t.Errorf("%+v", claims)
	}
	var answered []string
	for _, e := range must(n.client.journal.Read(testCtx(t), "r"))(t) {
		if a, is := e.Body.(*messages.Answered); is && e.Writer == "y" {
			answered = append(answered, a.Reply.Answer.Text)
		}
	}
	if len(answered) != 1 || answered[0] != "bonjour" {
		t.Errorf("%q", answered)
	}
}

func TestRepliesOfAProgram(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	member := actors.Agent{Name: "y", External: "translator"}
	n, _ := homeNode(t, url, "n", nil, member)
	p := newTranslator(t, url)
	for name, tt := range map[string]struct {
		format, reply string
		class         messages.Class
		words         string
	}{
		"neither":  {reply: `{"step": "1"}`, class: messages.Malformed, words: "neither"},
		"empty":    {reply: `{"step": "1", "answer": {"text": " "}}`, class: messages.Malformed, words: "empty"},
		"format":   {format: `{"type":"object","required":["a"]}`, reply: `{"step": "1", "answer": {"text": "{}"}}`, class: messages.Malformed, words: "a"},
		"failure":  {reply: `{"step": "1", "error": {"class": "quota", "message": "no money"}}`, class: messages.Quota, words: "no money"},
		"stopping": {reply: `{"step": "1", "error": {"class": "stopping", "message": "I stop"}}`, class: messages.Crashed, words: "I stop"},
	} {
		run := must(n.Submit(testCtx(t), member, messages.Task{ID: name, Prompt: "?", Format: json.RawMessage(tt.format)}))(t)
		ask := <-p.got
		p.reply(t, ask, tt.reply)
		_, err := run.Wait(testCtx(t))
		wantClass(t, err, tt.class, tt.words)
		if !run.Ended() {
			t.Errorf("%s: it has not ended", name)
		}
	}
}

func TestTimeoutOfAProgram(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	member := actors.Agent{Name: "y", External: "translator", Timeout: 100 * time.Millisecond}
	n, _ := homeNode(t, url, "n", nil, member)
	run := must(n.Submit(testCtx(t), member, messages.Task{ID: "r", Prompt: "?"}))(t)
	_, err := run.Wait(testCtx(t))
	wantClass(t, err, messages.Budget, "100ms")
}

// A program is asked again by the next owner of a run, and by the same step.
func TestProgramIsAskedAgainAfterAStop(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	member := actors.Agent{Name: "y", External: "translator"}
	n, _ := homeNode(t, url, "n", nil, member)
	p := newTranslator(t, url)
	run := must(n.Submit(testCtx(t), member, messages.Task{ID: "r", Prompt: "?"}))(t)
	<-p.got
	ok(t, n.Stop(testCtx(t)))
	_, err := run.Wait(testCtx(t))
	wantClass(t, err, messages.Stopping)
	n2, _ := homeNode(t, url, "n2", nil, member)
	run = must(n2.Resume(testCtx(t), "r", member))(t)
	p.reply(t, <-p.got, `{"step": "1", "answer": {"text": "bonjour"}}`)
	ans, err := run.Wait(testCtx(t))
	ok(t, err)
	if ans.Text != "bonjour" {
		t.Errorf("%+v", ans)
	}
}

// NATS goes away for longer than a home may leave its owner's words unanswered,
// and for less than a lease lasts: the member lives on, and nothing is paid twice.
func TestMemberOutlivesAnOutageOfNATS(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), freePort(t)
	url, stop := listen(t, dir, port)
	tm := onGPU(`{}`)
	called := make(chan struct{})
	once := sync.OnceFunc(func() { close(called) })
	owner, _ := homeNodeFor(t, leaseTimes{}, url, "owner", nil, tm)
	_, m := homeNodeFor(t, leaseTimes{}, url, "gpu1", []string{"gpu"}, tm, scripted.Rule{
		When: scripted.When{Match: func(*provider.Request) bool { once(); return true }}, Reply: scripted.Reply{Hang: scripted.HangForever, Text: "from afar"},
	})
	run := must(owner.Submit(testCtx(t), tm, messages.Task{ID: "r", Prompt: "?"}))(t)
	<-called
	stop()
	time.Sleep(9 * time.Second)
	listen(t, dir, port)
	m.Release()
	ans, err := run.Wait(testCtx(t))
	ok(t, err)
	if ans.Text != "from afar" || ans.Restarts != 0 || m.Count() != 1 {
		t.Errorf("%+v, %d calls", ans, m.Count())
	}
}

// A node that only knows a team is a home for its members, and leaves its queue
// alone.
func TestANodeThatKnowsATeam(t *testing.T) {
	t.Parallel()
	url, _ := listen(t, t.TempDir(), freePort(t))
	tm := onGPU(``)
	tm.Definition = nil
	owner, _ := homeNode(t, url, "owner", nil, tm)
	home, _ := homeNode(t, url, "gpu1", []string{"gpu"}, tm, scripted.Rule{Reply: scripted.Reply{Text: "from afar"}})
	ok(t, home.Know(tm))
	ans, err := owner.Ask(testCtx(t), tm, "?")
	ok(t, err)
	if ans.Text != "from afar" || len(home.self().Queues) != 0 {
		t.Errorf("%+v, %q", ans, home.self().Queues)
	}
}
