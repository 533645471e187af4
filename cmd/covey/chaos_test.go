package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// chaosFor is a chaos of the shortest kind, with few runs, its folders in dir.
func chaosFor(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	w := where{dir: dir, env: []string{"TMPDIR=" + dir}}
	return w.start(t, append([]string{"chaos", "--for", "5s", "--runs", "2", "--seed", "3"}, args...)...)
}

// ends waits for the end of a chaos, which may take longer than other commands.
func (p *process) ends() *process {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(3 * time.Minute):
		p.t.Fatalf("it does not end\n%s", p)
	}
	return p
}

// leaves fails if there is anything in the folder, or a process that was started
// with it.
func leaves(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "covey-chaos-*"))
	ok(t, err)
	if len(files) > 0 {
		t.Errorf("it leaves %q", files)
	}
	if left := processesOf(t, dir); len(left) > 0 {
		t.Errorf("processes are left: %q", left)
	}
}

// processesOf are the command lines that name a folder, where /proc tells.
func processesOf(t *testing.T, dir string) (found []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ok(t, err)
	for _, l := range lines {
		b, _ := os.ReadFile(l) // one that has just ended has none
		if text := strings.ReplaceAll(string(b), "\x00", " "); strings.Contains(text, dir) {
			found = append(found, text)
		}
	}
	return found
}

// TestChaosOfATeam breaks a cluster on which a team of the user's works.
func TestChaosOfATeam(t *testing.T) {
	dir := t.TempDir()
	team := filepath.Join(dir, "team.yaml")
	ok(t, os.WriteFile(team, []byte("name: pair\nmodel: scripted\nmembers:\n  - {name: a, role: one}\n  - {name: b, role: two}\nplan: pipeline\n"), 0o600))
	p := chaosFor(t, dir, team, "Why?", "--fault", "kill,stop", "--json").ends()
	p.wait(0).says("seed 3;", "kill -9 of node-")
	var report struct {
		Seed   uint64
		Runs   int
		Faults []any
		Checks []struct {
			Name, Seen string
			Skipped    bool
		}
	}
	ok(t, json.Unmarshal([]byte(p.out.String()), &report))
	skipped := 0
	for _, c := range report.Checks {
		if c.Skipped {
			skipped++
		}
	}
	if report.Seed != 3 || report.Runs < 2 || len(report.Faults) < 1 || len(report.Checks) < 8 || skipped != 2 {
		t.Errorf("%+v", report)
	}
	leaves(t, dir)
}

// TestChaosInterrupted ends a chaos in its middle: nothing of it stays.
func TestChaosInterrupted(t *testing.T) {
	dir := t.TempDir()
	p := chaosFor(t, dir)
	late := time.After(time.Minute)
	for !strings.Contains(p.err.String(), " of node-") && !strings.Contains(p.err.String(), " to node-") {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-p.done:
			t.Fatalf("it ended\n%s", p)
		case <-late:
			t.Fatalf("no fault\n%s", p)
		}
	}
	if len(processesOf(t, dir)) == 0 {
		if _, err := os.Stat("/proc"); err == nil {
			t.Error("no process of it is found: the test looks for the wrong thing")
		}
	}
	p.signal(syscall.SIGINT)
	p.ends().wait(exitInterrupted).says("interrupted; every process has ended").quiet(p.out)
	leaves(t, dir)
}

func TestChaosUsage(t *testing.T) {
	w := where{dir: t.TempDir()}
	for text, args := range map[string][]string{
		`fault: "flood" is not allowed: use kill, stop, term, nats, partition`: {"--fault", "flood"},
		"chaos: for: 1s is not allowed: use at least 5s":                       {"--for", "1s"},
		"chaos: nodes: 10 is not allowed: use 1 to 9":                          {"--nodes", "10"},
		"chaos: nodes: 2 is not allowed: use 3, for embedded servers":          {"--nodes", "2", "--embedded"},
		"chaos: fault: nats is not allowed":                                    {"--fault", "nats", "--embedded"},
		"--model is for a team of yours":                                       {"--model", "scripted"},
		"--nats and --dir are not for chaos":                                   {"--nats", "nats://127.0.0.1:1"},
		"the question is missing":                                              {"team.yaml"},
	} {
		w.run(t, exitUsage, append([]string{"chaos"}, args...)...).says(text)
	}
	ok(t, os.WriteFile(filepath.Join(w.dir, "x"), nil, 0o600))
	w.run(t, exitUsage, "chaos", "--keep", w.dir).says("is not empty: name a new folder")
}
