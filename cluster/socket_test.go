package cluster

import (
	"bufio"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
)

func TestDialThroughTheSocket(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, "owner", "DIR="+dir)
	c.expect("acked")
	if st := must(os.Stat(sockOf(dir)))(t); st.Mode().Perm() != 0o600 {
		t.Errorf("socket has mode %v", st.Mode())
	}
	nc := must(dial(dir, "t", connEvents{}))(t)
	defer nc.Close()
	j := must(openJournal(testCtx(t), nc, journalOptions{}))(t)
	if records := must(j.Read(testCtx(t), "r1"))(t); len(records) < 100 {
		t.Fatalf("%d records", len(records))
	}
	gone := make(chan struct{})
	nc.SetClosedHandler(func(*nats.Conn) { close(gone) })
	c.kill()
	<-gone
}

func TestDialWithoutANode(t *testing.T) {
	start := time.Now()
	_, err := dial(t.TempDir(), "t", connEvents{})
	wantClass(t, err, messages.Unavailable, "no node answers")
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v", d)
	}
}

func TestSocketShutdownLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	dir := t.TempDir()
	l := must(lockDir(dir))(t)
	srv := must(embed(dir, "", nil, nil))(t)
	s := must(serveSocket(l, srv, ""))(t)
	for range 5 { // clients that are still there at shutdown
		nc := must(dial(dir, "t", connEvents{}))(t)
		defer nc.Close()
		ok(t, nc.Flush())
	}
	// A client that closes its half of the connection is let go.
	c := must(net.Dial("unix", sockOf(dir)))(t)
	ok(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
	in := bufio.NewReader(c)
	if hello := must(in.ReadString('\n'))(t); !strings.HasPrefix(hello, "INFO ") {
		t.Errorf("the server said %q", hello)
	}
	ok(t, c.(*net.UnixConn).CloseWrite())
	must(io.ReadAll(in))(t)
	_ = c.Close()
	// A client that never says anything.
	mute := must(net.Dial("unix", sockOf(dir)))(t)
	defer func() { _ = mute.Close() }()

	s.close()
	srv.stop()
	ok(t, l.release())
	if exists(sockOf(dir)) {
		t.Error("the socket file is still there")
	}
	goleak.VerifyNone(t, before)
}
