package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/covey-run/covey/messages"
)

const soloTeam = `
name: solo
role: a tester
model: scripted
scripted:
  - when: {last: Fail}
    reply: {fail: {class: invalid, message: "no such thing"}}
  - reply: {text: "Because."}
`

// decode reads a process's JSON.
func decode[T any](t testing.TB, p *process) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.out.String()), &v); err != nil {
		t.Fatalf("%v\n%s", err, p)
	}
	return v
}

func TestRunsFilters(t *testing.T) {
	w := where{dir: t.TempDir()}
	team := file(t, soloTeam)
	w.run(t, 0, "run", team, "Why?", "--id", "r1")
	w.run(t, exitFailed, "run", team, "Fail!", "--id", "r2")
	node := decode[messages.RunInfo](t, w.run(t, 0, "runs", "show", "r1", "--json")).Node
	for args, want := range map[string]string{
		"":                         "r1 r2",
		"--state failed":           "r2",
		"--team solo":              "r1 r2",
		"--team other":             "",
		"--session s":              "",
		"--node " + node:           "r1",
		"--since 1h":               "r1 r2",
		"--since 2999-01-01":       "",
		"--since 1h --most 1":      "r2",
		"--team solo --state done": "r1",
	} {
		var got []string
		for _, i := range decode[[]messages.RunInfo](t, w.run(t, 0, append([]string{"runs", "--json"}, strings.Fields(args)...)...)) {
			got = append(got, i.Run)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("runs %s: %q, want %q", args, got, want)
		}
	}
	w.run(t, 0, "runs", "show", "r1").prints("priority  normal", "queue     run-r1", "node      "+node)
	w.run(t, 0, "__complete", "runs", "show", "").prints("r1\tWhy?", "r2\tFail!")
	w.run(t, 0, "__complete", "runs", "purge", "").prints("r1\tWhy?")
}

func TestPurge(t *testing.T) {
	w := where{dir: t.TempDir()}
	team := file(t, soloTeam)
	for _, id := range []string{"r1", "r2", "r3"} {
		w.run(t, 0, "run", team, "Why?", "--id", id)
	}
	w.run(t, 0, "submit", team, "Why?", "--id", "r4").says("no node takes such tasks now")
	w.run(t, 0, "runs", "purge", "r1", "--dry-run").prints("run r1 would be removed")
	w.run(t, exitFailed, "runs", "purge", "r4", "--dry-run").says("run r4 is queued")
	w.run(t, exitFailed, "runs", "purge", "r4").says("run r4 is queued")
	w.run(t, 0, "runs", "purge", "r1").prints("run r1 is removed")
	w.run(t, 0, "runs", "purge", "--ended", "--older-than", "24h").prints("0 runs are removed")
	w.run(t, 0, "runs", "purge", "--ended", "--dry-run").prints("run r2 would be removed", "2 runs would be removed")
	if did := decode[purged](t, w.run(t, 0, "runs", "purge", "--ended", "--state", "done", "--json")); did.Count != 2 || strings.Join(did.Runs, " ") != "r2 r3" {
		t.Errorf("%+v", did)
	}
	w.run(t, 0, "runs").prints("r4")
	w.run(t, 0, "runs", "cancel", "r4", "--json").prints(`"state":"failed"`)
}

// TestFollowEnded follows runs on a directory that no node runs on.
func TestFollowEnded(t *testing.T) {
	w := where{dir: t.TempDir()}
	team := file(t, soloTeam)
	w.run(t, 0, "run", team, "Why?", "--id", "r1")
	w.run(t, exitFailed, "run", team, "Fail!", "--id", "r2")
	w.run(t, 0, "submit", team, "Why?", "--id", "r3")
	p := w.run(t, 0, "runs", "follow", "r1")
	p.prints("run r1 of team solo: Why?", "is asked (step 1)", "the run is done", "\n\nBecause.\n").quiet(p.err)
	w.run(t, exitFailed, "runs", "follow", "r2").prints("the run failed").says("no such thing")
	w.run(t, exitFailed, "runs", "follow", "r3").says("run r3 is queued, and no node runs on .covey")
	w.run(t, exitFailed, "runs", "follow", "r4").says(`run "r4" is not there`)
	w.run(t, exitFailed, "submit", team, "Why?", "--id", "r5", "--wait").says("run r5 is queued, and no node runs on .covey")
	p = w.run(t, 0, "runs", "follow", "r1", "--json")
	kinds := []string{}
	for line := range strings.Lines(p.out.String()) {
		var r struct{ Kind string }
		ok(t, json.Unmarshal([]byte(line), &r))
		kinds = append(kinds, r.Kind)
	}
	if got := strings.Join(kinds, " "); got != "begun asked model answered done" {
		t.Errorf("%s", got)
	}
}

// TestResumeRun has nodes go on with a failed run; there is none, so it waits.
func TestResumeRun(t *testing.T) {
	w := where{dir: t.TempDir()}
	team := file(t, soloTeam)
	w.run(t, exitFailed, "run", team, "Fail!", "--id", "r1")
	w.run(t, 0, "run", team, "Why?", "--id", "r2")
	w.run(t, exitFailed, "runs", "resume", "r2").says("has ended with an answer")
	w.run(t, 0, "runs", "resume", "r1").prints("run r1 is in the queue again").says("no node takes such tasks now")
	w.run(t, 0, "runs", "--state", "interrupted").prints("r1")
}

func TestErrorsInJSON(t *testing.T) {
	w := where{dir: t.TempDir()}
	for args, class := range map[string]messages.Class{
		"runs show r1 --json":                   messages.Invalid,
		"runs --state gone --json":              messages.Invalid,
		"tree --json":                           messages.Invalid,
		"node drain a --json":                   messages.Invalid,
		"runs --nats nats://127.0.0.1:1 --json": messages.Unavailable,
	} {
		status := exitFailed
		if strings.Contains(args, "gone") {
			status = exitUsage
		}
		p := w.run(t, status, strings.Fields(args)...)
		if f := decode[failed](t, p); f.Error == nil || f.Error.Class != class || p.err.String() == "" {
			t.Error(p)
		}
	}
}
