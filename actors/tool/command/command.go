// Package command makes tools of external commands: a program that reads its
// arguments as JSON and prints what it has to say. There is no shell between.
package command

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
)

// MaxOutput is how much a command may print, in bytes; more is an error.
const MaxOutput = 1 << 20

// KeyVariable is the environment variable that holds the call's idempotency
// key: the same for every try of one call, and for no other.
const KeyVariable = "COVEY_TOOL_KEY"

// Command says how to run an external command as a tool.
//
// The arguments are on its standard input, a JSON object; its standard output,
// without the last line break, is the tool's output. An exit status other than
// 0 is an error with the last lines of its standard error. It inherits the
// environment and gets [KeyVariable]. When the call is called off or overruns,
// its whole process group is killed; a child that it leaves behind with its
// output open is killed a second after it ended. On Linux the command, though
// not its children, dies with this process; elsewhere one that outlives a kill
// of this process may still take effect after the run was resumed.
type Command struct {
	// Name and Description are what the model sees.
	Name        string
	Description string
	// Argv is the program and its arguments. A program without a slash is looked
	// up in PATH.
	Argv []string
	// Dir is the working directory, and where a relative program with a slash is.
	// "": the process's own.
	Dir string
	// Env are more variables, as "NAME=value".
	Env []string
	// Parameters is the JSON schema of the arguments. nil: it takes none.
	Parameters json.RawMessage
	// Effect says what calling twice would do. The zero value is unsafe.
	Effect messages.Effect
	// Timeout bounds one call. Zero: 30 s.
	Timeout time.Duration
	// Verify is a command that finds out, from the same input and key, whether a
	// call took effect: exit status 0 says that it did, and standard output is
	// what it gave; 1 says that it did not; anything else that it cannot tell.
	// nil: a person decides.
	Verify []string
}

// Tool returns the command as a tool, or an error of class invalid that names
// the field which cannot work.
func (c Command) Tool() (tool.Tool, error) {
	bad := func(field string, value any, allowed string) error {
		return messages.Errorf(messages.Invalid, "", "tool %q: %s: %v is not allowed: use %s", c.Name, field, value, allowed)
	}
	for field, argv := range map[string][]string{"command": c.Argv, "verify": c.Verify} {
		if field == "verify" && argv == nil {
			continue
		}
		if len(argv) == 0 || argv[0] == "" {
			return tool.Tool{}, bad(field, fmt.Sprintf("%q", argv), "a list: the program, and its arguments")
		}
		for _, a := range argv {
			if strings.ContainsRune(a, 0) {
				return tool.Tool{}, bad(field, fmt.Sprintf("%q", a), "text without a NUL")
			}
		}
	}
	for _, e := range c.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" || strings.ContainsRune(e, 0) {
			return tool.Tool{}, bad("env", fmt.Sprintf("%q", name), "NAME=value")
		}
	}
	t := tool.Tool{
		Name: c.Name, Description: c.Description, Parameters: c.Parameters, Effect: c.Effect, Timeout: c.Timeout,
		Call: c.call,
	}
	if c.Verify != nil {
		t.Verify = c.verify
	}
	return t, t.Check()
}

func (c Command) call(ctx context.Context, args json.RawMessage) (string, error) {
	out, code, err := c.run(ctx, c.Argv, args, tool.Key(ctx))
	if err != nil {
		return "", err
	}
	if code.status != 0 {
		return "", messages.Errorf(messages.Tool, "", "%s: %s", c.Argv[0], code)
	}
	return out, nil
}

func (c Command) verify(ctx context.Context, args json.RawMessage, key string) (string, bool, error) {
	out, code, err := c.run(ctx, c.Verify, args, key)
	switch {
	case err != nil:
		return "", false, err
	case code.status == 0:
		return out, true, nil
	case code.status == 1:
		return "", false, nil
	}
	return "", false, messages.Errorf(messages.Tool, "", "%s cannot tell whether the call took effect: %s", c.Verify[0], code)
}

func (c Command) timeout() time.Duration { return cmp.Or(c.Timeout, 30*time.Second) }
