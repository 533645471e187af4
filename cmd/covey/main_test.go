package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == toolArg {
		os.Exit(beTool(os.Args[2:]))
	}
	status := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(status)
}

var built string // the folder of the binary

// binary is the command under test, built once, with the race detector if the
// tests have it.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "covey-test-")
	if err != nil {
		return "", err
	}
	built = dir
	bin := filepath.Join(dir, "covey")
	args := []string{"build", "-o", bin}
	if withRace {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// limit bounds every wait for a process: no command that is tested here may take
// longer.
func limit() time.Duration {
	if withRace {
		return 30 * time.Second
	}
	return 10 * time.Second
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// output is what a process has printed so far.
type output struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{} // closed and replaced at each write
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// process is a covey process, in a process group of its own. It is killed with
// the test at the latest.
type process struct {
	t    testing.TB
	args []string
	cmd  *exec.Cmd
	out  *output
	err  *output
	done chan struct{}
}

// where is what a process runs in: its folder, and more environment.
type where struct {
	dir string
	env []string
}

func (w where) start(t testing.TB, args ...string) *process {
	t.Helper()
	bin, err := binary()
	ok(t, err)
	p := &process{t: t, args: args, cmd: exec.Command(bin, args...), out: newOutput(), err: newOutput(), done: make(chan struct{})}
	p.cmd.Dir = w.dir
	p.cmd.Env = append(append(os.Environ(),
		"OLLAMA_HOST=127.0.0.1:1",   // nobody's real server
		"GORACE=atexit_sleep_ms=0"), // else a second at each end
		w.env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.err
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ok(t, p.cmd.Start())
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.kill()
		for _, bad := range []string{"DATA RACE", "goroutine 1 ["} {
			if strings.Contains(p.err.String(), bad) {
				t.Errorf("%s in\n%s", bad, p)
			}
		}
	})
	return p
}

// kill is kill -9, and waits.
func (p *process) kill() {
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
}

func (p *process) String() string {
	return fmt.Sprintf("covey %s\nstdout: %s\nstderr: %s", strings.Join(p.args, " "), p.out, p.err)
}

// wait waits for the process to end by itself, and checks its status.
func (p *process) wait(status int) *process {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit()):
		p.t.Fatalf("not ended after %s\n%s", limit(), p)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != status {
		p.t.Fatalf("exit status %d, want %d\n%s", got, status, p)
	}
	return p
}

// sees waits until the process has printed a text on stderr.
func (p *process) sees(text string) {
	p.t.Helper()
	late := time.After(limit())
	for {
		p.err.mu.Lock()
		changed, has := p.err.changed, strings.Contains(p.err.b.String(), text)
		p.err.mu.Unlock()
		if has {
			return
		}
		select {
		case <-changed:
		case <-p.done:
			if !strings.Contains(p.err.String(), text) {
				p.t.Fatalf("it ended and never said %q\n%s", text, p)
			}
			return
		case <-late:
			p.t.Fatalf("it does not say %q\n%s", text, p)
		}
	}
}

// says fails unless stderr has every text.
func (p *process) says(texts ...string) *process {
	p.t.Helper()
	for _, text := range texts {
		if !strings.Contains(p.err.String(), text) {
			p.t.Errorf("stderr does not say %q\n%s", text, p)
		}
	}
	return p
}

// prints fails unless stdout has every text.
func (p *process) prints(texts ...string) *process {
	p.t.Helper()
	for _, text := range texts {
		if !strings.Contains(p.out.String(), text) {
			p.t.Errorf("stdout does not say %q\n%s", text, p)
		}
	}
	return p
}

// quiet fails unless a stream is empty.
func (p *process) quiet(o *output) *process {
	p.t.Helper()
	if o.String() != "" {
		p.t.Errorf("printed something where nothing is expected\n%s", p)
	}
	return p
}

// run runs a command to its end.
func (w where) run(t testing.TB, status int, args ...string) *process {
	t.Helper()
	return w.start(t, args...).wait(status)
}

// poll calls is until it is true.
func poll(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(limit())
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}
