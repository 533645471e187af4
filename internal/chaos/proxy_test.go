package chaos

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// echo answers each line with itself.
func echo(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return ln
}

type caller struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func reach(t *testing.T, addr string) caller {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	ok(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return caller{t, c, bufio.NewReader(c)}
}

func (c caller) say(line string) {
	c.t.Helper()
	_, err := fmt.Fprintln(c, line)
	ok(c.t, err)
}

func (c caller) hears(line string) {
	c.t.Helper()
	ok(c.t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	got, err := c.in.ReadString('\n')
	if err != nil || got != line+"\n" {
		c.t.Fatalf("heard %q, %v; want %q", got, err, line)
	}
}

// silent says that nothing comes, for a moment.
func (c caller) silent() {
	c.t.Helper()
	ok(c.t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if b, err := c.in.Peek(1); err == nil {
		c.t.Fatalf("heard %q through a cut", b)
	} else if n, is := err.(net.Error); !is || !n.Timeout() {
		c.t.Fatalf("the cut closed the connection: %v", err)
	}
}

func TestProxy(t *testing.T) {
	ln := echo(t)
	p, err := newProxy(ln.Addr().String())
	ok(t, err)
	old := reach(t, p.addr())
	old.say("one")
	old.hears("one")

	p.sever()
	p.sever()
	old.say("two")
	old.silent()
	fresh := reach(t, p.addr())
	fresh.say("three")
	fresh.silent()

	p.heal()
	old.hears("two")
	fresh.hears("three")
	old.say("four")
	old.hears("four")

	p.sever()
	old.say("five")
	p.close()
	if _, err := old.in.ReadByte(); err == nil {
		// What was on its way may still arrive; then comes the end.
		_, err = io.Copy(io.Discard, old.in)
		ok(t, err)
	}
	if _, err := net.DialTimeout("tcp", p.addr(), time.Second); err == nil {
		t.Error("it listens after its end")
	}
}

// A server that is down closes the connection at once, through the proxy too.
func TestProxyToNobody(t *testing.T) {
	ln := echo(t)
	p, err := newProxy(ln.Addr().String())
	ok(t, err)
	defer p.close()
	ok(t, ln.Close())
	c := reach(t, p.addr())
	ok(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := c.in.ReadByte(); err == nil {
		t.Error("somebody answered")
	} else if n, is := err.(net.Error); is && n.Timeout() {
		t.Error("it hangs")
	}
}
