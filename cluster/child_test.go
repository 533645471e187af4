package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
)

// children are what this test binary does when it is started again as another
// process. They say on standard output how far they are.
var children = map[string]func(){
	"owner":  childOwner,
	"writer": childWriter,
	"worker": childWorker,
	"holder": childHolder,
}

// child is another process of this test binary.
type child struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

// startChild starts one; it is killed with the test at the latest.
func startChild(t testing.TB, what string, env ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0], "-test.run=^$")}
	c.cmd.Env = append(os.Environ(), append(env, "COVEY_TEST_CHILD="+what)...)
	c.cmd.Stderr = os.Stderr
	out := must(c.cmd.StdoutPipe())(t)
	c.in = must(c.cmd.StdinPipe())(t)
	c.out = bufio.NewScanner(out)
	ok(t, c.cmd.Start())
	t.Cleanup(c.kill)
	return c
}

// expect reads lines until one begins with prefix, and returns its rest.
func (c *child) expect(prefix string) string {
	c.t.Helper()
	for c.out.Scan() {
		if rest, found := strings.CutPrefix(c.out.Text(), prefix); found {
			return strings.TrimSpace(rest)
		}
		if strings.HasPrefix(c.out.Text(), "error:") {
			c.t.Log(c.out.Text())
		}
	}
	c.t.Fatalf("the child ended before it said %q", prefix)
	return ""
}

// kill is kill -9, and waits.
func (c *child) kill() {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
}

func check(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// childOwner owns a directory, serves its socket, and writes until it is killed.
func childOwner() {
	ctx := context.Background()
	l, err := lockDir(os.Getenv("DIR"))
	check(err)
	srv, err := embed(l.dir, "", nil, nil)
	check(err)
	_, err = serveSocket(l, srv, "")
	check(err)
	nc, err := srv.connect("child", connEvents{})
	check(err)
	j, err := openJournal(ctx, nc, journalOptions{})
	check(err)
	w, err := j.Claim(ctx, "r1", "plan", messages.Claim{Node: "child"})
	check(err)
	for i := 0; ; i++ {
		_, err := w.Append(ctx, fmt.Sprint(i), said("x"))
		check(err)
		if i >= 100 && i%100 == 0 {
			fmt.Println("acked", i+1)
		}
	}
}

// childWriter claims a writer on a NATS server and appends until it is refused.
func childWriter() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	nc, err := connect(ctx, os.Getenv("URL"), "child", connEvents{})
	check(err)
	j, err := openJournal(ctx, nc, journalOptions{})
	check(err)
	w, err := j.Claim(ctx, "r1", "plan", messages.Claim{Node: "child"})
	check(err)
	for i := 0; ; i++ {
		if i == 50 {
			fmt.Println("writing")
		}
		if _, err := w.Append(ctx, fmt.Sprint(i), said("child")); err != nil {
			fmt.Println("refused", messages.ClassOf(err))
			return
		}
	}
}

// childWorker takes tasks from a NATS server and holds them for ever.
func childWorker() {
	ctx := context.Background()
	nc, err := connect(ctx, os.Getenv("URL"), "child", connEvents{})
	check(err)
	wait, err := time.ParseDuration(os.Getenv("ACKWAIT"))
	check(err)
	hold(ctx, nc, queueOptions{Shared: true, AckWait: wait})
	fmt.Println("serving")
	select {}
}

// childHolder owns a directory, puts three tasks into its queue, and holds them
// for ever.
func childHolder() {
	ctx := context.Background()
	l, err := lockDir(os.Getenv("DIR"))
	check(err)
	srv, err := embed(l.dir, "", nil, nil)
	check(err)
	nc, err := srv.connect("child", connEvents{})
	check(err)
	q := hold(ctx, nc, queueOptions{})
	for i := range 3 {
		_, err := q.submit(ctx, task(fmt.Sprint("t", i)))
		check(err)
	}
	select {}
}

func hold(ctx context.Context, nc *nats.Conn, o queueOptions) *queue {
	o.Room, o.Deliver = 10, func(d *delivery) { fmt.Println("took", d.Task.ID, d.Ack()) }
	q, err := openQueue(ctx, nc, o)
	check(err)
	check(q.serve(ctx, "team"))
	return q
}
