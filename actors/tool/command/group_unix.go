//go:build unix

package command

import (
	"os/exec"
	"syscall"
)

// ownGroup puts the command into a process group of its own, so that its
// children can be killed with it; where the system can, the command dies with
// this process.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
}

func killGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
