//go:build !unix

package chaos

import (
	"os"
	"os/exec"
	"syscall"

	"github.com/covey-run/covey/messages"
)

var term, freeze, thaw, stacks = os.Kill, os.Kill, os.Kill, os.Kill

func childAttr() *syscall.SysProcAttr { return nil }

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func supported() error {
	return messages.Errorf(messages.Invalid, "chaos", "this system has no SIGSTOP: use Linux, macOS or another Unix")
}
