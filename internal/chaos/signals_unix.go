//go:build unix

package chaos

import (
	"os"
	"os/exec"
	"syscall"
)

var (
	term   os.Signal = syscall.SIGTERM
	freeze os.Signal = syscall.SIGSTOP
	thaw   os.Signal = syscall.SIGCONT
	// stacks has a Go program print every goroutine's stack, and end.
	stacks os.Signal = syscall.SIGQUIT
)

func childAttr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(attr)
	return attr
}

func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// supported is nil where the signals are.
func supported() error { return nil }
