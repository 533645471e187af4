package supervisor_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

//go:noinline
func deeper(f func()) { f() }

func TestTheStackOfACrashIsTheUsersOwn(t *testing.T) {
	var none map[string]int
	for name, f := range map[string]func(){
		"panic":  func() { panic("x") },
		"nil":    func() { none["x"] = 1 },
		"goexit": runtime.Goexit,
		"error":  func() { var p *int; *p = 1 },
	} {
		k := newKit(t, supervisor.Config{Policy: instant})
		a := k.probe(supervisor.Ref{}, "a")
		for where, run := range map[string]do{
			"Receive": func(*supervisor.Context) error { deeper(f); return nil },
			"Go": func(c *supervisor.Context) error {
				c.Asker()
				c.Go("w", func(context.Context) any { deeper(f); return nil })
				return nil
			},
		} {
			var e *messages.Error
			if err := k.ask(a, run); !errors.As(err, &e) {
				t.Fatalf("%s in %s: %v", name, where, err)
			}
			lines := strings.Split(e.Stack, "\n")
			if !strings.Contains(e.Stack, "supervisor_test.deeper(...)\n\t") || strings.HasPrefix(lines[0], "runtime.") ||
				strings.Contains(e.Stack, "protoactor") || strings.Contains(e.Stack, "(*shell)") || !strings.Contains(e.Stack, "stack_test.go:") {
				t.Errorf("%s in %s:\n%s", name, where, e.Stack)
			}
		}
		k.alive(a)
	}
}
