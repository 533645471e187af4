package supervisor

import (
	"runtime"
	"strconv"
	"strings"
)

// maxFrames bounds a stack that is kept.
const maxFrames = 48

// panicStack is the stack of the panic or runtime.Goexit that the calling
// deferred function is handling, written as debug.Stack does: from where it
// happened down to the users' code that the supervisor called. debug.Stack takes
// 60 µs, most of it for frames that say nothing.
func panicStack() string {
	var pcs [maxFrames + 16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	var b strings.Builder
	var line [20]byte
	above, n := true, 0 // above: still in the deferred functions and the runtime
	inRuntime := false
	for more := true; more && n < maxFrames; {
		var f runtime.Frame
		f, more = frames.Next()
		isRuntime := strings.HasPrefix(f.Function, "runtime.")
		if above {
			inRuntime = inRuntime || isRuntime
			if !inRuntime || isRuntime {
				continue
			}
			above = false
		}
		if f.Function == "" || strings.HasPrefix(f.Function, ownPrefix) || f.Function == "runtime.goexit" {
			break
		}
		b.WriteString(f.Function)
		b.WriteString("(...)\n\t")
		b.WriteString(f.File)
		b.WriteByte(':')
		b.Write(strconv.AppendInt(line[:0], int64(f.Line), 10))
		b.WriteByte('\n')
		n++
	}
	return b.String()
}

// ownPrefix begins the names of the shell's methods, which call users' code.
var ownPrefix = func() string {
	pc, _, _, _ := runtime.Caller(0)
	name := runtime.FuncForPC(pc).Name() // …/supervisor.init.func1
	return name[:strings.LastIndexByte(name, '/')+1] + "supervisor.(*shell)."
}()
