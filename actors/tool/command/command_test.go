//go:build unix

package command_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/actors/tool/command"
	"github.com/covey-run/covey/messages"
)

// script makes a tool of shell scripts; the tool itself needs no shell.
func script(t *testing.T, call, verify string) tool.Tool {
	t.Helper()
	dir := t.TempDir()
	write := func(name, body string) []string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body), 0o755); err != nil {
			t.Fatal(err)
		}
		return []string{"./" + name}
	}
	c := command.Command{Name: "it", Argv: write("call", call), Dir: dir, Parameters: json.RawMessage(`{"type":"object"}`)}
	if verify != "" {
		c.Verify = write("verify", verify)
	}
	return tool.Must(c.Tool())
}

func TestCommandReadsArgumentsAndKeyAndPrints(t *testing.T) {
	it := script(t, `echo "$(cat) $COVEY_TOOL_KEY"`, "")
	got, err := it.Call(tool.WithKey(context.Background(), "run/1.2"), json.RawMessage(`{"a":"$(id)"}`))
	if want := `{"a":"$(id)"} run/1.2`; got != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if got, err := it.Call(context.Background(), nil); got != "{} " || err != nil {
		t.Errorf("without arguments: %q, %v", got, err)
	}
	if it.Effect != messages.Unsafe {
		t.Errorf("effect %q", it.Effect)
	}
}

func TestCommandFailures(t *testing.T) {
	for _, c := range []struct {
		name, script string
		class        messages.Class
		want         string
	}{
		{"exit status", "echo one >&2; echo no money >&2; exit 3", messages.Tool, "./call: exit status 3: one\nno money"},
		{"many lines", "seq 100 >&2; exit 1", messages.Tool, "…96\n97\n98\n99\n100"},
		{"a flood of errors", "yes | head -c 1000000 >&2; exit 1", messages.Tool, "…y"},
		{"signal", "kill -9 $$", messages.Tool, "signal: killed"},
		{"too much output", "yes", messages.Tool, "printed more than 1048576 bytes"},
		{"does not read its input", "exec 0<&-; exit 7", messages.Tool, "exit status 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := script(t, c.script, "").Call(context.Background(), json.RawMessage(`{"x":"`+strings.Repeat("x", 200_000)+`"}`))
			if messages.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %.300v, want class %s and %q", err, c.class, c.want)
			}
			if len(err.Error()) > 3000 {
				t.Fatalf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestOutputUpToTheLimit(t *testing.T) {
	got, err := script(t, "head -c 1048576 /dev/zero", "").Call(context.Background(), nil)
	if len(got) != command.MaxOutput || err != nil {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestMissingProgram(t *testing.T) {
	it := tool.Must(command.Command{Name: "it", Argv: []string{"./no-such-program"}, Dir: t.TempDir()}.Tool())
	_, err := it.Call(context.Background(), nil)
	if !errors.Is(err, messages.Tool) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// The script starts a child in the background and tells its pid; both must be
// gone after the call was called off.
func TestCancelKillsTheWholeGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	it := script(t, `sleep 1000 & echo $! > `+file+`.part; mv `+file+`.part `+file+`; wait`, "")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { _, err := it.Call(ctx, nil); done <- err }()
	child := readPid(t, file)
	cancel()
	if err := <-done; !errors.Is(err, messages.Canceled) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	gone(t, child)
}

func TestTimeoutKills(t *testing.T) {
	it := script(t, "sleep 1000", "")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := it.Call(ctx, nil); !errors.Is(err, messages.Timeout) {
		t.Errorf("got %v", err)
	}
}

func TestAChildLeftBehindDoesNotHoldTheCall(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	it := script(t, `sleep 1000 & echo $! > `+file+`; echo done`, "")
	if got, err := it.Call(context.Background(), nil); got != "done" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	gone(t, readPid(t, file))
}

func readPid(t *testing.T, file string) (pid int) {
	t.Helper()
	until(t, "the pid file", func() bool {
		b, err := os.ReadFile(file)
		for _, c := range strings.TrimSpace(string(b)) {
			pid = 10*pid + int(c-'0')
		}
		return err == nil
	})
	return pid
}

func gone(t *testing.T, pid int) {
	t.Helper()
	until(t, "the child's end", func() bool {
		stat, _ := os.ReadFile("/proc/" + itoa(pid) + "/stat") // an orphan may stay a zombie where nobody reaps
		return syscall.Kill(pid, 0) != nil || strings.Contains(string(stat), ") Z ")
	})
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 10s for %s", what)
		}
	}
}

func TestVerify(t *testing.T) {
	for _, c := range []struct {
		name, script, output string
		done                 bool
		fails                string
	}{
		{"it took effect", `echo "charged $(cat) $COVEY_TOOL_KEY"`, `charged {"a":1} k`, true, ""},
		{"it did not", "exit 1", "", false, ""},
		{"it cannot tell", "echo bank is closed >&2; exit 2", "", false, "cannot tell whether the call took effect: exit status 2: bank is closed"},
		{"it dies", "kill -9 $$", "", false, "cannot tell"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, done, err := script(t, "exit 9", c.script).Verify(context.Background(), json.RawMessage(`{"a":1}`), "k")
			if out != c.output || done != c.done || (err == nil) != (c.fails == "") {
				t.Errorf("got %q %v %v", out, done, err)
			}
			if err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("got %v, want %q", err, c.fails)
			}
		})
	}
}

func TestCommandChecksItself(t *testing.T) {
	argv := []string{"true"}
	for want, c := range map[string]command.Command{
		`is not a name`:            {Argv: argv},
		`command: [] is not`:       {Name: "a"},
		`command: [""] is not`:     {Name: "a", Argv: []string{""}},
		`text without a NUL`:       {Name: "a", Argv: []string{"a\x00"}},
		`verify: [] is not`:        {Name: "a", Argv: argv, Verify: []string{}},
		`use NAME=value`:           {Name: "a", Argv: argv, Env: []string{"x"}},
		`timeout: -1s`:             {Name: "a", Argv: argv, Timeout: -time.Second},
		`use a JSON schema`:        {Name: "a", Argv: argv, Parameters: json.RawMessage(`1`)},
		`effect: none is not allo`: {Name: "a", Argv: argv, Effect: "none"},
	} {
		if _, err := c.Tool(); !errors.Is(err, messages.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want class invalid and %q", err, want)
		}
	}
}
