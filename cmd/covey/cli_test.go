package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/teamfile"
)

func renaissance(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../examples/renaissance/team.yaml")
	ok(t, err)
	return path
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "team.yaml")
	ok(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestDemo(t *testing.T) {
	w := where{dir: t.TempDir()}
	p := w.run(t, 0, "demo")
	p.says("scripted", "panicked", "backing off", "restarted", "breaker opens", "half-open", "recovered", "from the journal", "ACTOR", "└─ ", "2 restarts")
	if got := strings.Count(p.out.String(), "\n"); got != 1 || !strings.HasPrefix(p.out.String(), "(scripted) ") {
		t.Errorf("stdout has more than the answer:\n%s", p.out)
	}
	if left, _ := os.ReadDir(w.dir); len(left) > 0 {
		t.Errorf("it leaves %v behind", left)
	}
}

func TestUsageErrors(t *testing.T) {
	w := where{dir: t.TempDir()}
	team := renaissance(t)
	for _, c := range []struct {
		args string
		says string
	}{
		{"frob", `unknown command "frob"`},
		{"rnu", "did you mean run or runs?"},
		{"run", "TEAM.yaml is missing"},
		{"run " + team, "the question is missing"},
		{"run " + team + " why not", "put quotes around"},
		{"run --frob", "covey run --help"},
		{"run " + team + " why --timeout -1s", "use a positive duration"},
		{"run " + team + " why --timeout soon", "invalid argument"},
		{"runs --state gone", "use one of queued, running"},
		{"runs --most 0", "use at least 1"},
		{"runs frob", `unknown command "frob"`},
		{"runs show", "RUN is missing"},
		{"runs --dir a --nats b", "exclude each other"},
		{"resume", "RUN is missing"},
		{"tree --every 1ms", "use at least 50ms"},
		{"demo now", "unknown command"},
		{"runs --since soon", `--since: "soon" is not allowed: use a positive duration`},
		{"runs --session a.b", `--session: "a.b" is not a name`},
		{"runs purge", "name runs, or use --ended"},
		{"runs purge r1 --ended", "use one of both"},
		{"runs purge --ended --older-than -1h", "--older-than: -1h0m0s is not allowed"},
		{"runs purge --ended --state running", "use done or failed"},
		{"runs follow a.b", `RUN: "a.b" is not a name`},
		{"submit " + team + " why --priority urgent", `--priority: "urgent" is not allowed: use high, normal or low`},
		{"submit " + team + " why --session a.b", `--session: "a.b" is not a name`},
		{"serve --name a.b", `--name: "a.b" is not a name`},
		{"serve --pool a.b", `--pool: "a.b" is not a name`},
		{"serve --max-runs 0", "--max-runs: 0 is not allowed: use at least 1"},
		{"serve --max-guests -1", "--max-guests: -1 is not allowed: use at least 1"},
		{"serve --drain-timeout -1s", "--drain-timeout: -1s is not allowed"},
		{"serve --peer 127.0.0.1:6222", "--peer needs --cluster"},
		{"serve --certs certs", "--certs needs --cluster"},
		{"serve --cluster", "--cluster needs --name"},
		{"serve --cluster --name a", "--cluster needs --certs"},
		{"serve --cluster --nats nats://127.0.0.1:4222", "--cluster and --nats exclude each other"},
		{"serve now", `unknown command "now"`},
		{"node drain", "NODE is missing"},
		{"node drain a --timeout 0s", "--timeout: 0s is not allowed"},
		{"tree --node a.b", `--node: "a.b" is not a name`},
	} {
		p := w.run(t, exitUsage, strings.Fields(c.args)...)
		p.says(c.says).quiet(p.out)
	}
	p := w.run(t, exitUsage, "run", team, " ")
	p.says("the question is empty")
	if left, _ := os.ReadDir(w.dir); len(left) > 0 {
		t.Errorf("a command line that is wrong leaves %v behind", left)
	}
}

func TestNothingThere(t *testing.T) {
	w := where{dir: t.TempDir()}
	w.run(t, 0, "runs").prints("no runs\n")
	w.run(t, 0, "runs", "--json").prints("[]\n")
	for _, args := range []string{"runs show x", "runs cancel x", "runs purge x", "resume x"} {
		w.run(t, exitFailed, strings.Fields(args)...).says("nothing has run here", "--dir")
	}
	w.run(t, exitFailed, "tree").says("no node runs on .covey", "--dir", "--nats")
	if left, _ := os.ReadDir(w.dir); len(left) > 0 {
		t.Errorf("looking leaves %v behind", left)
	}
	w.run(t, exitFailed, "runs", "--nats", "nats://127.0.0.1:1").says("no NATS server answers there")
	w.run(t, exitFailed, "runs", "--nats", "nonsense").says("use nats://host:port")

	w.run(t, 0, "run", renaissance(t), "Why?", "--model", "scripted")
	for _, args := range []string{"runs show x", "runs cancel x", "runs purge x", "resume x"} {
		w.run(t, exitFailed, strings.Fields(args)...).says(`run "x" is not there`, "covey runs")
	}
}

func TestTeamFileErrors(t *testing.T) {
	w := where{dir: t.TempDir()}
	w.run(t, exitFailed, "run", "nosuch.yaml", "Why?").says("nosuch.yaml: no such file")
	w.run(t, exitFailed, "run", file(t, "name: a\nrole: b\nmodle: scripted\n"), "Why?").says("team.yaml:3", `unknown key "modle"`, `did you mean "model"?`)
	w.run(t, exitFailed, "run", file(t, "name: a\nrole: b\n"), "Why?").says("model is missing")
	w.run(t, exitFailed, "run", file(t, "name: a\nrole: b\nmodel: nosuch/model\n"), "Why?").says("nosuch")
}

func TestNoModelServer(t *testing.T) {
	w := where{dir: t.TempDir()}
	p := w.run(t, exitFailed, "run", renaissance(t), "Why?")
	p.says("http://127.0.0.1:1", "connection refused", "ollama serve", "Two ways on", "--model scripted").quiet(p.out)
	w.run(t, 0, "runs").prints("no runs")
}

func TestRunIsAnsweredOnceByItsID(t *testing.T) {
	w := newWorld(t)
	p := w.begin("run", w.team, question, "--id", "sale", "--json").wait(0)
	var a messages.Answer
	ok(t, json.Unmarshal([]byte(p.out.String()), &a))
	if a.Run != "sale" || a.Text != rightAnswer || a.Steps != 11 || a.Usage.Calls != 7 || a.Journal != 0 {
		t.Errorf("%+v", a)
	}
	w.http.Close() // no model server: nobody needs one any more
	p = w.where.run(t, 0, "run", w.team, question, "--id", "sale", "--json")
	ok(t, json.Unmarshal([]byte(p.out.String()), &a))
	if a.Text != rightAnswer || a.Journal != 11 {
		t.Errorf("%+v", a)
	}
	w.where.run(t, 0, "resume", "sale").prints(rightAnswer).says("11 steps from the journal")
	w.where.run(t, exitFailed, "run", w.team, "Another?", "--id", "sale").says("run sale is there with another task", question, "use another id")
	w.where.run(t, exitUsage, "run", w.team, question, "--id", "no id").says("--id", "is not a name")
	w.check()

	w.where.run(t, 0, "runs").prints("RUN ", "sale", "shop", "done", question)
	p = w.where.run(t, 0, "runs", "--json")
	var infos []messages.RunInfo
	ok(t, json.Unmarshal([]byte(p.out.String()), &infos))
	if len(infos) != 1 || infos[0].Run != "sale" {
		t.Errorf("%s", p)
	}
	w.where.run(t, 0, "runs", "show", "sale").prints("state     done", "7 model calls", rightAnswer)
	w.where.run(t, exitFailed, "runs", "cancel", "sale").says("has ended (done)")
	w.where.run(t, 0, "runs", "purge", "sale").prints("run sale is removed")
	w.where.run(t, 0, "runs").prints("no runs")
}

func TestQuiet(t *testing.T) {
	w := where{dir: t.TempDir()}
	p := w.run(t, 0, "run", renaissance(t), "Why?", "--model", "scripted", "--quiet")
	p.prints("(scripted)").quiet(p.err)
}

func TestTimeout(t *testing.T) {
	w := newWorld(t)
	w.holdAt("model 2 is asked")
	p := w.begin("run", w.team, question, "--id", "slow", "--timeout", (limit() / 5).String())
	p.wait(exitFailed).says("deadline", "(timeout)", "covey resume slow").quiet(p.out)
	s := w.killed() // the call that was given up is made again
	w.where.run(t, 0, "runs", "show", "slow").prints("failed", "deadline", "covey resume slow")
	w.finishes(w.begin("resume", "slow"), s)
}

func TestInterrupt(t *testing.T) {
	w := newWorld(t)
	w.holdAt("model 4 is asked")
	p := w.begin("run", w.team, question)
	if !w.holding(p) {
		t.Fatal(p)
	}
	began := time.Now()
	p.signal(os.Interrupt)
	p.wait(exitInterrupted).says("interrupted", "Ctrl-C again", "cut off", "go on with: covey resume ").quiet(p.out)
	if took := time.Since(began); took > 5*time.Second && !withRace {
		t.Errorf("it took %s to end", took)
	}
	s := w.killed()
	w.where.run(t, 0, "runs", "--state", "interrupted").prints(s.run)
	w.finishes(w.begin("resume", s.run), s)
	w.check()
}

func TestInterruptTwice(t *testing.T) {
	w := newWorld(t)
	w.holdAt("model 4 is asked")
	p := w.begin("run", w.team, question)
	if !w.holding(p) {
		t.Fatal(p)
	}
	p.signal(os.Interrupt)
	p.sees("Ctrl-C again quits at once")
	p.signal(os.Interrupt)
	began := time.Now()
	p.wait(exitInterrupted)
	if took := time.Since(began); took >= stopWithin { // that is how long the first one would take
		t.Errorf("it took %s to end", took)
	}
	s := w.killed()
	w.finishes(w.begin("run", w.team, question), s)
	w.check()
}

func TestTwoOnOneDirectory(t *testing.T) {
	w := newWorld(t)
	w.holdAt("model 4 is asked")
	p := w.begin("run", w.team, question)
	if !w.holding(p) {
		t.Fatal(p)
	}
	w.where.run(t, exitFailed, "run", w.team, "Another?").says(fmt.Sprintf("in use by pid %d", p.cmd.Process.Pid), "covey run", "--dir")

	run := ""
	w.client(func(ctx context.Context, c *cluster.Client) { // through the socket
		infos, err := c.Runs(ctx)
		ok(t, err)
		run = infos[0].Run
	})
	w.where.run(t, 0, "runs").prints(run, "running")
	w.where.run(t, 0, "runs", "show", run).prints("state     running")
	w.where.run(t, exitFailed, "runs", "purge", run).says("is running", "cancel it first")
	tree := w.where.run(t, 0, "tree")
	tree.prints("ACTOR", "cashier", "step 2: model call 1", "ollama:fake", "breaker closed")
	for line := range strings.Lines(tree.out.String()) {
		if strings.TrimRight(line, " \n")+"\n" != line {
			t.Errorf("trailing blanks: %q", line)
		}
	}
	var trees []messages.TreeNode
	ok(t, json.Unmarshal([]byte(w.where.run(t, 0, "tree", "--json").out.String()), &trees))
	if len(trees) != 1 || trees[0].Kind != "node" {
		t.Errorf("%+v", trees)
	}
	watch := w.where.start(t, "tree", "--watch", "--every", "50ms")
	poll(t, "the tree is drawn twice", func() bool { return strings.Count(watch.out.String(), "ACTOR") >= 2 })
	stopped := w.where.start(t, "tree", "-w")
	poll(t, "the tree is drawn", func() bool { return strings.Contains(stopped.out.String(), "ACTOR") })
	stopped.signal(os.Interrupt)
	stopped.wait(0)
	w.where.run(t, 0, "runs", "cancel", run, "--reason", "too dear").prints("run " + run)
	p.wait(exitFailed).says("canceled: too dear")
	watch.wait(0).says("the node has ended")
	w.where.run(t, 0, "runs", "show", run).prints("failed", "canceled: too dear")
	w.where.run(t, 0, "runs", "purge", run)
}

func TestCancelOfWhatNobodyWorksOn(t *testing.T) {
	w := newWorld(t)
	w.holdAt("model 1 is asked")
	p := w.begin("run", w.team, question)
	if !w.holding(p) {
		t.Fatal(p)
	}
	p.kill()
	s := w.killed()
	w.where.run(t, 0, "runs", "cancel", s.run).prints("run " + s.run + " is canceled")
	w.where.run(t, 0, "runs", "show", s.run).prints("state     failed", "no reason given")
	w.where.run(t, 0, "runs", "--state", "failed").prints(s.run, question)
}

// TestModelError is a run that fails for a cause that can be mended.
func TestModelError(t *testing.T) {
	w := where{dir: t.TempDir()}
	team := file(t, `
name: solo
role: a tester
model: scripted
scripted:
  - reply: {fail: {class: invalid, message: "the model knows no option temperature"}}
`)
	p := w.run(t, exitFailed, "run", team, "Why?", "--id", "r1", "--json")
	p.says("✗ solo", "the model knows no option temperature", "covey runs show r1", "covey resume r1")
	var f struct {
		Run   string
		Error messages.Error
	}
	ok(t, json.Unmarshal([]byte(p.out.String()), &f))
	if f.Run != "r1" || f.Error.Class != messages.Invalid {
		t.Errorf("%+v", f)
	}
	w.run(t, exitFailed, "run", team, "Why?", "--id", "r1").says("the model knows no option temperature")
	w.run(t, 0, "runs", "show", "r1").prints("state     failed", "error: scripted: the model knows no option temperature\n")
	w.run(t, exitFailed, "resume", "r1").says("is asked (step 1)") // open again, and asked again
}

// TestClientPanic is a run that fails on a panic; the stack is kept.
func TestClientPanic(t *testing.T) {
	w := where{dir: t.TempDir()}
	team := file(t, "name: solo\nrole: a tester\nmodel: scripted\nmax_park: 0s\nscripted: [{reply: {panic: out of paper}}]\n")
	w.run(t, exitFailed, "run", team, "Why?", "--id", "r1").says("panicked: out of paper", "backing off")
	w.run(t, 0, "runs", "show", "r1").prints("out of paper", "where it crashed:", "goroutine", "scripted.go")
}

// TestPoison is a run of a Go program, whose agent crashes at one step again and
// again.
func TestPoison(t *testing.T) {
	w := where{dir: t.TempDir()}
	ctx, cancel := context.WithTimeout(context.Background(), 3*limit())
	defer cancel()
	err := cluster.With(ctx, cluster.Config{Dir: filepath.Join(w.dir, ".covey"), Logger: silent}, func(ctx context.Context, n *cluster.Node) error {
		run, err := n.Submit(ctx, actors.Agent{Name: "critic", Model: "scripted", Validate: func(context.Context, string) error { panic("no pen") }},
			messages.Task{ID: "r1", Prompt: "Why?"})
		if err != nil {
			return err
		}
		if _, err := run.Wait(ctx); messages.ClassOf(err) != messages.Poison {
			return fmt.Errorf("class %q: %w", messages.ClassOf(err), err)
		}
		return nil
	})
	ok(t, err)
	w.run(t, 0, "runs", "show", "r1").prints("state     failed", "no pen", "(poison)", "before:", "where it crashed:", "cli_test.go")
	w.run(t, exitFailed, "resume", "r1").says("defined in code", "resume it from the program that has it")
}

func TestSchemaAndCompletion(t *testing.T) {
	w := where{dir: t.TempDir()}
	p := w.run(t, 0, "schema")
	if !json.Valid([]byte(p.out.String())) || p.out.String() != string(teamfile.Schema()) {
		t.Error(p)
	}
	if p := w.run(t, 0, "schema", "--wire"); p.out.String() != string(messages.Schema()) {
		t.Error(p)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		p := w.run(t, 0, "completion", shell)
		p.prints("covey").quiet(p.err)
		if path, err := exec.LookPath(shell); err == nil && shell == "bash" {
			check := exec.Command(path, "-n")
			check.Stdin = strings.NewReader(p.out.String())
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		}
	}
	w.run(t, 0, "__complete", "runs", "--state", "").prints("interrupted")
	w.run(t, 0, "--version").prints("covey version ")
	w.run(t, 0, "--help").prints("covey demo", "completion")
}
