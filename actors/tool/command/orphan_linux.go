package command

import "syscall"

// dieWithParent has the kernel kill the command when this process dies, however
// it does: a tool that outlived a kill -9 could take effect after the run was
// resumed, and its Verify hook was asked. It does not reach the command's own
// children.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
