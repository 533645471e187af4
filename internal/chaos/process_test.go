package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	covey "github.com/covey-run/covey/cluster"
)

// startNATS starts a NATS server as a process, and waits until it answers.
func startNATS(t *testing.T) (*process, *nats.Conn, jetstream.JetStream) {
	t.Helper()
	bin, err := binary()
	ok(t, err)
	port, err := freePort()
	ok(t, err)
	dir := t.TempDir()
	p := &process{
		name: "nats", env: os.Environ(), log: filepath.Join(dir, "log"),
		argv: []string{bin, "chaos-nats", fmt.Sprintf("--port=%d", port), "--store=" + filepath.Join(dir, "store")},
	}
	ok(t, p.start())
	t.Cleanup(p.kill)
	nc, js, err := dial("nats://"+loopback(port), covey.Credentials{})
	ok(t, err)
	t.Cleanup(nc.Close)
	return p, nc, js
}

// until calls is until it succeeds.
func until(t *testing.T, what string, is func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := is(try)
		cancel()
		if err == nil {
			return
		}
		if wait(ctx, 20*time.Millisecond) != nil {
			t.Fatalf("never: %s: %v", what, err)
		}
	}
}

// What a server has acknowledged is there after its death, and the kit's way to
// it comes back.
func TestNATSServer(t *testing.T) {
	p, nc, js := startNATS(t)
	until(t, "a stream", func(ctx context.Context) error {
		_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
		return err
	})
	until(t, "a message", func(ctx context.Context) error {
		_, err := js.Publish(ctx, "s.x", []byte("x"))
		return err
	})
	if err := p.start(); err == nil {
		t.Error("it was started twice")
	}
	first := p.pid()
	p.kill()
	p.kill()
	if p.pid() != 0 || !strings.Contains(p.status(), "killed") {
		t.Errorf("pid %d, %s", p.pid(), p.status())
	}
	ok(t, p.signal(term)) // to nobody: nothing
	ok(t, p.start())
	if p.pid() == first {
		t.Error("the second life has the first one's id")
	}
	until(t, "the message after a restart", func(ctx context.Context) error {
		s, err := js.Stream(ctx, "S")
		if err == nil && s.CachedInfo().State.Msgs != 1 {
			t.Fatalf("%d messages", s.CachedInfo().State.Msgs)
		}
		return err
	})

	ok(t, p.signal(freeze))
	until(t, "silence", func(ctx context.Context) error { // a signal takes a moment to arrive
		ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		if nc.FlushWithContext(ctx) == nil {
			return errors.New("a frozen server answers")
		}
		return nil
	})
	ok(t, p.signal(thaw))
	until(t, "an answer after the thaw", nc.FlushWithContext)

	ok(t, p.signal(term))
	<-p.end()
	if p.status() != "exit status 0" {
		t.Errorf("after SIGTERM: %s\n%s", p.status(), tail(p.log, 20))
	}
}

func TestAlarming(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	ok(t, os.WriteFile(path, []byte("fine\nWARNING: DATA RACE\nfine\n"), 0o600))
	if found, err := alarming(path); err != nil || len(found) != 1 || !strings.Contains(found[0], ":2: WARNING") {
		t.Error(found, err)
	}
}
