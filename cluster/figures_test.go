package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
)

// What the benchmarks of a cluster have in common: the NATS server and the nodes
// are processes of their own. They end when the benchmark does, however it ends.

func init() {
	children["nats"] = childNATS
	children["node"] = childNode
}

// orders are the lines on a child's standard input. The child ends with it.
func orders() <-chan string {
	in := make(chan string)
	go func() {
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
			in <- s.Text()
		}
		os.Exit(1) // whoever started it is gone
	}()
	return in
}

func (c *child) order(format string, args ...any) {
	c.t.Helper()
	_, err := fmt.Fprintf(c.in, format+"\n", args...)
	ok(c.t, err)
}

// childNATS is a server that drops a client which does not answer for 2 s.
func childNATS() {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: os.Getenv("DIR"),
		PingInterval: time.Second, MaxPingsOut: 2, NoSigs: true, NoLog: true,
	})
	check(err)
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		check(context.DeadlineExceeded)
	}
	fmt.Println("ready", s.ClientURL())
	for range orders() {
	}
}

// startNATS starts a server in a process of its own.
func startNATS(b *testing.B) (url string, srv *child) {
	b.Helper()
	srv = startChild(b, "nats", "DIR="+b.TempDir())
	return srv.expect("ready"), srv
}

// childNode is a node that works on figure teams until SIGTERM. It reports on
// itself when it is asked to.
func childNode() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	in, name := orders(), os.Getenv("NAME")
	room, err := strconv.Atoi(os.Getenv("ROOM"))
	check(err)
	cfg := Config{URL: os.Getenv("URL"), Name: name, MaxRuns: room, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))}
	var r resident
	check(With(ctx, cfg, func(ctx context.Context, n *Node) error {
		for _, t := range []actors.Team{beats(name), steps(), r.team()} {
			if err := n.Serve(ctx, t); err != nil {
				return err
			}
		}
		fmt.Println("ready")
		for {
			select {
			case what := <-in:
				fmt.Println("report", r.report(n, what == "memory"))
			case <-ctx.Done():
				fmt.Println("stopping")
				return nil
			}
		}
	}))
}

// childNodeOn returns once the node takes tasks.
func childNodeOn(b *testing.B, url, name string, room int) *child {
	b.Helper()
	c := startChild(b, "node", "URL="+url, "NAME="+name, fmt.Sprint("ROOM=", room))
	c.expect("ready")
	return c
}

// figureTeam is a team of one member, whom its plan does not ask.
func figureTeam(name string, plan actors.PlanFunc) actors.Team {
	return actors.Team{Name: name, Plan: plan, Members: []actors.Member{actors.Agent{Name: "a", Model: "scripted"}}}
}

// beat is how long each step of a team of beats takes.
const beat = 10 * time.Millisecond

// beats is a team that records every 10 ms where it is, until it is canceled.
func beats(node string) actors.Team {
	return figureTeam("beats", func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		for {
			_, err := actors.Once(ctx, s, "beat", func(context.Context) (string, error) {
				time.Sleep(beat)
				return node, nil
			})
			if err != nil {
				return messages.Answer{}, err
			}
		}
	})
}

// steps is a team that makes as many steps as it is asked for, each of 300 bytes.
func steps() actors.Team {
	text := strings.Repeat("x", 300)
	return figureTeam("steps", func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		n, err := strconv.Atoi(s.Prompt())
		for i := 0; i < n && err == nil; i++ {
			_, err = actors.Once(ctx, s, "step", func(context.Context) (string, error) { return text, nil })
		}
		return messages.Answer{Text: "done"}, err
	})
}

// resident is a team that waits.
type resident struct{ waiting atomic.Int64 }

func (r *resident) team() actors.Team {
	return figureTeam("resident", func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
		r.waiting.Add(1)
		return messages.Answer{}, s.Wait(ctx, 24*time.Hour)
	})
}

// report is what a node's process says of itself, in bytes.
type report struct {
	Waiting       int64 // runs that have come to their wait
	Runs          int
	Goroutines    int
	Heap, Stacks  uint64
	Subscriptions int
}

func (r *resident) report(n *Node, memory bool) string {
	var m runtime.MemStats
	if memory {
		runtime.GC()
		runtime.ReadMemStats(&m)
	}
	out, err := json.Marshal(report{
		r.waiting.Load(), len(n.rt.Runs()), runtime.NumGoroutine(), m.HeapAlloc, m.StackInuse, n.nc.NumSubscriptions(),
	})
	check(err)
	return string(out)
}

// reportOf asks for a report: "count", or "memory" for all of it.
func (c *child) reportOf(what string) (r report) {
	c.t.Helper()
	c.order("%s", what)
	ok(c.t, json.Unmarshal([]byte(c.expect("report")), &r))
	return r
}

// usage is the processor time that a process has used, and the memory that it
// has now, in bytes. It needs Linux.
func (c *child) usage() (cpu time.Duration, memory uint64) {
	c.t.Helper()
	stat := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid)))(c.t))
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const user, system, resident = 11, 12, 21 // after the command's name
	number := func(i int) uint64 { return must(strconv.ParseUint(fields[i], 10, 64))(c.t) }
	const hertz = 100
	return time.Duration(number(user)+number(system)) * time.Second / hertz, number(resident) * uint64(os.Getpagesize())
}

// newFiguresClient connects the benchmark itself.
func newFiguresClient(b *testing.B, url string) *Client {
	b.Helper()
	c := must(Open(b.Context(), Config{URL: url}))(b)
	b.Cleanup(c.Close)
	return c
}

// leaseEpoch is that of a node's lease, 0 without one.
func leaseEpoch(b *testing.B, c *Client, node string) uint64 {
	b.Helper()
	e, err := must(c.journal.js.KeyValue(b.Context(), leaseBucket))(b).Get(b.Context(), node)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0
	}
	ok(b, err)
	var i messages.NodeInfo
	ok(b, json.Unmarshal(e.Value(), &i))
	return i.Epoch
}

// noted is a record of the journal, and when the server stored it.
type noted struct {
	messages.Envelope
	at time.Time
}

// hearRecords hears every record from now on.
func hearRecords(b *testing.B, c *Client) <-chan noted {
	b.Helper()
	consumer := must(c.journal.ordered(b.Context(), jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{messages.SubjectRuns + ".>"}, DeliverPolicy: jetstream.DeliverNewPolicy,
	}))(b)
	ch := make(chan noted, 1<<16)
	cc := must(consumer.Consume(func(m jetstream.Msg) {
		md, err := m.Metadata()
		if err != nil {
			return
		}
		if e, err := decodeRecord(m.Headers(), m.Data(), md.Sequence.Stream); err == nil {
			ch <- noted{e, md.Timestamp}
		}
	}))(b)
	b.Cleanup(func() {
		cc.Stop()
		for {
			select {
			case <-ch:
			case <-cc.Closed():
				return
			}
		}
	})
	return ch
}

// spread are the times of something that was done again and again.
type spread []time.Duration

// at is the share's percentile, in milliseconds.
func (s spread) at(share float64) float64 {
	slices.Sort(s)
	if len(s) == 0 {
		return 0
	}
	return float64(s[min(int(share*float64(len(s))), len(s)-1)].Nanoseconds()) / 1e6
}

// metrics reports the distribution, in milliseconds.
func (s spread) metrics(b *testing.B, prefix string) {
	b.ReportMetric(s.at(0.5), prefix+"ms-p50")
	b.ReportMetric(s.at(0.99), prefix+"ms-p99")
	b.ReportMetric(s.at(1), prefix+"ms-max")
}

// quiet leaves out the time of the whole, which says nothing.
func quiet(b *testing.B) { b.ReportMetric(0, "ns/op") }

func connectRaw(b *testing.B, url string) *nats.Conn {
	b.Helper()
	nc := must(nats.Connect(url))(b)
	b.Cleanup(nc.Close)
	return nc
}
