package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/covey-run/covey/messages"
)

const (
	tailLines = 5    // of standard error that an error shows
	tailBytes = 2048 // and at most so much of it
	// grace is how long the pipes may stay open after the program ended, for a
	// child that it left behind.
	grace = time.Second
)

// exit is how a program ended.
type exit struct {
	status int // -1: by a signal
	state  string
	stderr string
}

func (e exit) String() string {
	if e.stderr == "" {
		return e.state
	}
	return e.state + ": " + e.stderr
}

// run runs argv once. err says that it could not be run to its end.
func (c Command) run(ctx context.Context, argv []string, args json.RawMessage, key string) (string, exit, error) {
	fail := func(class messages.Class, format string, a ...any) (string, exit, error) {
		return "", exit{}, messages.Errorf(class, "", "%s: "+format, append([]any{argv[0]}, a...)...)
	}
	if len(bytes.TrimSpace(args)) == 0 {
		args = json.RawMessage("{}")
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()

	stdout := &limited{limit: MaxOutput, full: cancel}
	stderr := &tail{}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = append(append(os.Environ(), c.Env...), KeyVariable+"="+key)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(args), stdout, stderr
	cmd.WaitDelay = grace
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }

	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return fail(messages.ClassOf(ctx.Err()), "not started: %w", ctx.Err())
		}
		return fail(messages.Tool, "cannot be run: %w", err)
	}
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) { // it ended well, and a child of it still holds the pipes
		_ = killGroup(cmd)
		err = nil
	}

	var ended *exec.ExitError
	switch {
	case stdout.over:
		return fail(messages.Tool, "printed more than %d bytes", MaxOutput)
	case err == nil:
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fail(messages.Timeout, "killed: %w", context.DeadlineExceeded)
	case ctx.Err() != nil:
		return fail(messages.Canceled, "killed: %w", ctx.Err())
	case errors.As(err, &ended):
		return "", exit{status: ended.ExitCode(), state: ended.String(), stderr: stderr.String()}, nil
	default:
		return fail(messages.Tool, "%w", err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(stdout.b.String(), "\n"), "\r"), exit{}, nil
}

// limited keeps what is written up to a limit, and calls full beyond it. It does
// not embed its buffer: io.Copy would find ReadFrom, and pass Write by.
type limited struct {
	b     bytes.Buffer
	limit int
	over  bool
	full  func()
}

func (l *limited) Write(p []byte) (int, error) {
	if l.over || l.b.Len()+len(p) > l.limit {
		if !l.over {
			l.over = true
			l.full()
		}
		return len(p), nil
	}
	return l.b.Write(p)
}

// tail keeps the end of what is written.
type tail struct {
	b   []byte
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if n := len(t.b) - tailBytes; n > 0 {
		t.b, t.cut = append([]byte(nil), t.b[n:]...), true
	}
	return len(p), nil
}

func (t *tail) String() string {
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(t.b), "")), "\n")
	if n := len(lines) - tailLines; n > 0 {
		lines, t.cut = lines[n:], true
	}
	text := strings.Join(lines, "\n")
	if t.cut {
		return fmt.Sprintf("…%s", text)
	}
	return text
}
