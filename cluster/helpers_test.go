package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if child := os.Getenv("COVEY_TEST_CHILD"); child != "" {
		children[child]()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// testCtx ends after 30 s, so that nothing hangs.
func testCtx(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantClass fails unless err is of that class and its text holds every word.
func wantClass(t testing.TB, err error, c messages.Class, words ...string) {
	t.Helper()
	if messages.ClassOf(err) != c {
		t.Fatalf("class %q, want %q: %v", messages.ClassOf(err), c, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error does not say %q: %v", w, err)
		}
	}
}

// node is one embedded server with an in-process connection.
type testNode struct {
	dir string
	srv *embedded
	nc  *nats.Conn
}

func startEmbedded(t testing.TB, dir string, d Durability) testNode {
	t.Helper()
	srv := must(embed(dir, d, nil, nil))(t)
	nc := must(srv.connect("test", connEvents{}))(t)
	t.Cleanup(func() { nc.Close(); srv.stop() })
	return testNode{dir, srv, nc}
}

func startJournal(t testing.TB) (*journal, testNode) {
	t.Helper()
	n := startEmbedded(t, t.TempDir(), "")
	return must(openJournal(testCtx(t), n.nc, journalOptions{}))(t), n
}

// freePort returns a loopback port that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// listen starts a server on a loopback port, as a remote NATS would be. The
// returned func stops it.
func listen(t testing.TB, dir string, port int, opts ...func(*server.Options)) (url string, stop func()) {
	t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true}
	for _, f := range opts {
		f(o)
	}
	s := must(server.NewServer(o))(t)
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("server not ready")
	}
	stop = func() { s.Shutdown(); s.WaitForShutdown() }
	t.Cleanup(stop)
	return fmt.Sprintf("nats://127.0.0.1:%d", port), stop
}

// dialURL connects to url and closes with the test.
func dialURL(t testing.TB, url string) *nats.Conn {
	t.Helper()
	nc := must(connect(testCtx(t), url, "test", connEvents{}))(t)
	t.Cleanup(nc.Close)
	return nc
}

func said(text string) *messages.Spoken {
	return &messages.Spoken{Said: messages.Said{From: "a", Text: text}}
}

func textOf(e messages.Envelope) string {
	if s, ok := e.Body.(*messages.Spoken); ok {
		return s.Said.Text
	}
	return messages.KindOf(e.Body)
}

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }

func sockOf(dir string) string { return filepath.Join(dir, socketName) }
