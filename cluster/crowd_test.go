package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/messages"
)

func init() { children["crowd"] = childCrowd }

// BenchmarkCrowd is what the leases and the queues of 100 nodes cost, or of as many
// as COVEY_NODES says: their processes are two, a half of them in each, their
// connections their own, and they do nothing but renew, look after one another,
// and ask for tasks. It measures the processor time of the server and of the
// nodes, how late a renewal is heard, and how long it takes, from the death of one
// node, until the last of the others knows. One iteration is 20 s of that and
// five deaths.
func BenchmarkCrowd(b *testing.B) {
	nodes := 100
	if s := os.Getenv("COVEY_NODES"); s != "" {
		_, err := fmt.Sscan(s, &nodes)
		ok(b, err)
	}
	for b.Loop() {
		crowd(b, nodes)
	}
	quiet(b)
}

func crowd(b *testing.B, nodes int) {
	const watched, deaths = 20 * time.Second, 5
	url, srv := startNATS(b)
	client := newFiguresClient(b, url)
	began := time.Now()
	halves := []*child{
		startChild(b, "crowd", "URL="+url, "FROM=0", fmt.Sprint("TO=", nodes/2)),
		startChild(b, "crowd", "URL="+url, fmt.Sprint("FROM=", nodes/2), fmt.Sprint("TO=", nodes)),
	}
	for _, h := range halves {
		h.expect("ready")
	}
	var fenced string
	for _, h := range halves {
		h.order("know %d 0", nodes)
		fenced += h.expect("known") + " "
	}
	b.Logf("leases that were lost while all joined: %s", fenced)
	b.ReportMetric(time.Since(began).Seconds(), "all-joined-s")

	var late spread
	var mu sync.Mutex
	kv := must(openLeases(b.Context(), client.journal.js, 0))(b)
	ctx, cancel := context.WithCancel(b.Context())
	listen := must(keyWatch{nc: client.nc, kv: kv, keys: "*", listed: func() {}, take: func(e jetstream.KeyValueEntry) {
		var i messages.NodeInfo
		if json.Unmarshal(e.Value(), &i) == nil {
			mu.Lock()
			late = append(late, time.Since(i.At))
			mu.Unlock()
		}
	}}.begin(ctx))(b)
	var wg sync.WaitGroup
	wg.Go(listen)
	time.Sleep(time.Second) // those that were there are no renewals
	mu.Lock()
	late = nil
	mu.Unlock()
	all := []*child{srv, halves[0], halves[1]}
	var before, after [3]time.Duration
	for i, c := range all {
		before[i], _ = c.usage()
	}
	time.Sleep(watched)
	for i, c := range all {
		after[i], _ = c.usage()
	}
	cancel()
	wg.Wait()
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / watched.Seconds() }
	_, mem := srv.usage()
	b.ReportMetric(float64(mem)/1e6, "server-MB")
	b.ReportMetric(percent(after[0]-before[0]), "server-%cpu")
	b.ReportMetric(percent(after[1]-before[1]+after[2]-before[2])/float64(nodes), "%cpu/node")
	b.ReportMetric(float64(len(late))/watched.Seconds(), "renewals/s")
	late.metrics(b, "renewal-heard-")

	var told spread
	for i := range deaths {
		epoch := leaseEpoch(b, client, crowdName(i))
		began := time.Now()
		halves[0].order("die %d %d", i, epoch)
		halves[1].order("lose %d %d", i, epoch)
		for _, h := range halves {
			nanos := must(strconv.ParseInt(h.expect("lost"), 10, 64))(b)
			told = append(told, time.Unix(0, nanos).Sub(began))
		}
	}
	b.ReportMetric(told.at(0.5), "death-known-ms-p50")
	b.ReportMetric(told.at(1), "death-known-ms-max")
	for _, c := range append(halves, srv) {
		c.kill()
	}
}

// childCrowd is many nodes that do nothing but be there.
func childCrowd() {
	ctx := context.Background()
	from, err := strconv.Atoi(os.Getenv("FROM"))
	check(err)
	to, err := strconv.Atoi(os.Getenv("TO"))
	check(err)
	in := orders()
	members := make([]*membership, to-from)
	var wg sync.WaitGroup
	at := make(chan struct{}, 8)
	for i := range members {
		at <- struct{}{}
		wg.Go(func() {
			members[i] = attend(ctx, crowdName(from+i))
			<-at
		})
	}
	wg.Wait()
	fmt.Println("ready")
	gone := map[int]bool{}
	for line := range in {
		var what string
		var n int
		var epoch uint64
		_, err := fmt.Sscan(line, &what, &n, &epoch)
		check(err)
		switch what {
		case "know":
			for _, m := range members {
				for {
					live, changed := m.Live()
					if len(live) >= n {
						break
					}
					<-changed
				}
			}
			fmt.Println("known", fences.Load())
		case "die":
			gone[n-from] = true
			members[n-from].nc.Close()
			fallthrough
		case "lose":
			for i, m := range members {
				if !gone[i] {
					<-m.Lost(crowdName(n), epoch)
				}
			}
			fmt.Println("lost", time.Now().UnixNano())
		}
	}
}

func crowdName(n int) string { return fmt.Sprintf("node-%04d", n) }

// fences counts leases that somebody has ended, as of a node that answers too
// late.
var fences atomic.Int64

// attend is a node's leases, its answers to pings, and its queue.
func attend(ctx context.Context, name string) *membership {
	nc, err := connect(ctx, os.Getenv("URL"), name, connEvents{})
	for tries := 0; err != nil && tries < 100; tries++ { // a server that so many greet at once drops some
		time.Sleep(100 * time.Millisecond)
		nc, err = connect(ctx, os.Getenv("URL"), name, connEvents{})
	}
	check(err)
	q, err := openQueue(ctx, nc, queueOptions{Shared: true, Room: 16, Deliver: func(*delivery) {}})
	check(err)
	check(q.serve(ctx, "team"))
	started := now()
	m, err := join(ctx, nc, membershipOptions{
		Name: name,
		Info: func() messages.NodeInfo {
			return messages.NodeInfo{Node: name, Version: "dev", Wire: messages.Version, Started: started, PID: os.Getpid(), Queues: []string{"team"}, MaxRuns: 16, MaxGuests: 256}
		},
		Fence:  func(*messages.Error) { fences.Add(1) },
		Joined: func(messages.NodeInfo) {}, Lost: func(messages.NodeInfo) {}, Warn: func(error) {},
	})
	check(err)
	_, err = nc.Subscribe(nodeSubject(name, verbPing), func(r *nats.Msg) { _ = r.Respond([]byte(name)) })
	check(err)
	return m
}
