package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/covey-run/covey/messages"
)

// process is a program that is started again and again, at most one at a time.
// It has a process group of its own, and on Linux dies with this process. What
// it prints is in a file.
type process struct {
	name string
	argv []string
	env  []string // in place of this process's own
	log  string   // the file

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	lives int
}

// start starts the program.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return messages.Errorf(messages.Invalid, p.name, "it runs already, as process %d", p.cmd.Process.Pid)
	}
	out, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return messages.Errorf(messages.Unavailable, p.name, "%w", err)
	}
	defer out.Close()
	p.lives++
	fmt.Fprintf(out, "--- %s: life %d of %s\n", time.Now().Format("15:04:05.000"), p.lives, p.name)
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env = slices.Concat(p.env, []string{fmt.Sprintf("%s=%s.%d", lifeVariable, p.name, p.lives)}) // env is shared
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = childAttr()
	if err := cmd.Start(); err != nil {
		return messages.Errorf(messages.Unavailable, p.name, "%w", err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		_ = cmd.Wait() // its state says how it ended
		close(ended)
	}()
	return nil
}

// lifeVariable tells a process, and the tools that it starts, which life of
// which process it is.
const lifeVariable = "COVEY_CHAOS_LIFE"

// running reports whether the program runs; mu is held.
func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// signal sends a signal; to a process that has ended it is nothing.
func (p *process) signal(s os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return nil
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return messages.Errorf(messages.Unavailable, p.name, "%s: %w", s, err)
	}
	return nil
}

// end is closed when the present life is over.
func (p *process) end() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended == nil {
		p.ended = make(chan struct{})
		close(p.ended)
	}
	return p.ended
}

// kill ends the process, and what it has started and left in its group, by kill
// -9, and waits.
func (p *process) kill() {
	p.mu.Lock()
	if p.running() {
		killGroup(p.cmd)
	}
	p.mu.Unlock()
	<-p.end()
}

// pid is that of the present life, 0 without one.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0
	}
	return p.cmd.Process.Pid
}

// status is how the last life ended, "" while it lasts.
func (p *process) status() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.running() {
		return ""
	}
	return p.cmd.ProcessState.String()
}
