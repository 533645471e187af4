package main

import (
	"regexp"
	"strings"
	"testing"
)

// cutOff kills a run in the middle of a call of an unsafe tool that has no verify
// command, after its effect or before it.
func cutOff(t *testing.T, w *world, point string) (run string) {
	t.Helper()
	w.holdAt(point)
	p := w.begin("run", w.team, giftQuestion)
	if !w.holding(p) {
		t.Fatal(p)
	}
	p.kill()
	return w.killed().run
}

const (
	giftQuestion = "Sell me a gift?"
	giftCall     = "patron/4/0/0"
)

// TestResolveOffline settles a cut-off call while nobody works on the run.
func TestResolveOffline(t *testing.T) {
	for name, c := range map[string]struct{ point, flag, answer string }{
		"output": {"gift is done", "--output=given", "SOLD: true given"},
		"error":  {"gift is done", "--error=the shop was closed", "SOLD: true error: gift: the shop was closed (tool)"},
		"retry":  {"gift begins", "--retry", "SOLD: true given"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			run := cutOff(t, w, c.point)
			show := w.where.run(t, 0, "runs", "show", run)
			show.prints("waiting", "cut off   gift {} by patron (step 4)", "covey runs resolve "+run+" "+giftCall+" --output TEXT",
				giftCall+" --error TEXT", giftCall+" --retry", "covey resume "+run).quiet(show.err)
			w.where.run(t, 0, "runs", "--state", "waiting").prints(run)
			w.where.run(t, exitFailed, "runs", "resolve", run, "patron/4/0/7", "--error", "x").says("no unsettled tool call")
			w.where.run(t, exitUsage, "runs", "resolve", run, "patron", "--error", "x").says("MEMBER/STEP/REPLY/CALL")
			w.where.run(t, exitUsage, "runs", "resolve", run, giftCall).says("exactly one of")
			w.where.run(t, exitUsage, "runs", "resolve", run, giftCall, "--retry", "--output", "x").says("exactly one of")
			w.where.run(t, 0, "runs", "resolve", run, giftCall, c.flag).prints("settled", "go on with: covey resume "+run)
			w.begin("resume", run).wait(0).prints(c.answer).says("steps from the journal")
			w.where.run(t, exitFailed, "runs", "resolve", run, giftCall, "--output", "again").says("no unsettled tool call")
			w.check()
		})
	}
}

// TestResolveWaiting settles a cut-off call while a resumed run waits for it.
func TestResolveWaiting(t *testing.T) {
	for name, c := range map[string]struct {
		point  string
		flags  []string
		answer string
	}{
		"output": {"gift is done", []string{"--output", "a rose"}, "SOLD: true a rose"},
		"error":  {"gift is done", []string{"--error", "lost"}, "SOLD: true error: gift: lost (tool)"},
		"retry":  {"gift begins", []string{"--retry"}, "SOLD: true given"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			run := cutOff(t, w, c.point)
			p := w.begin("resume", run)
			p.sees("a person must say what came of it")
			p.says("see: covey runs show " + run)
			w.where.run(t, 0, "runs", "show", run).prints("waiting", giftCall)
			w.where.run(t, 0, "tree").prints("waits for a person")
			w.where.run(t, 0, append([]string{"runs", "resolve", run, giftCall}, c.flags...)...).prints("settled")
			p.wait(0).prints(c.answer)
			w.check()
		})
	}
}

// TestShownCommandsWork takes the command from where `runs show` prints it.
func TestShownCommandsWork(t *testing.T) {
	w := newWorld(t)
	run := cutOff(t, w, "gift is done")
	at := []string{"--dir", w.where.dir + "/.covey"}
	elsewhere := where{dir: t.TempDir()}
	shown := elsewhere.run(t, 0, append(at, "runs", "show", run)...).out.String()
	line := regexp.MustCompile(`covey (.*--output TEXT.*)`).FindStringSubmatch(shown)
	if line == nil {
		t.Fatal(shown)
	}
	elsewhere.run(t, 0, strings.Fields(strings.ReplaceAll(line[1], "TEXT", "given"))...)
	line = regexp.MustCompile(`go on +covey (.*)`).FindStringSubmatch(shown)
	if line == nil {
		t.Fatal(shown)
	}
	elsewhere.run(t, 0, strings.Fields(line[1])...).prints("SOLD: true given")
}
