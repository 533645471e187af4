package cluster

import (
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats-server/v2/server"
)

// threeServers is a NATS cluster on loopback.
func threeServers(t *testing.T) (urls string, servers []*server.Server) {
	t.Helper()
	var routes []*url.URL
	var ports []int
	for range 3 {
		ports = append(ports, freePort(t))
		routes = append(routes, must(url.Parse(fmt.Sprintf("nats-route://127.0.0.1:%d", ports[len(ports)-1])))(t))
	}
	for i, p := range ports {
		s := must(server.NewServer(&server.Options{
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: p}, Routes: routes,
		}))(t)
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers = append(servers, s)
	}
	for i, s := range servers {
		if !s.ReadyForConnections(10 * time.Second) {
			t.Fatal("server not ready")
		}
		if i > 0 {
			urls += ","
		}
		urls += s.ClientURL()
	}
	return urls, servers
}

// On three servers appends under one claim get in each other's way (10164), and
// any replica answers a read. Neither may show. Then the stream's leader stops
// in the middle of appends.
func TestThreeServers(t *testing.T) {
	t.Parallel()
	urls, servers := threeServers(t)
	ctx := testCtx(t)
	var mu sync.Mutex
	met := map[string]int{}
	j := must(openJournal(ctx, dialURL(t, urls), journalOptions{Replicas: 3, Retrying: func(_ string, _ int, err error) {
		mu.Lock()
		defer mu.Unlock()
		met[err.Error()]++
	}}))(t)
	w := claim(t, j, "r1", "plan", "n1")
	const appenders, each = 8, 60
	half := make(chan struct{}, appenders)
	var wg sync.WaitGroup
	for i := range appenders {
		wg.Go(func() {
			for k := range each {
				if k == each/2 {
					half <- struct{}{}
				}
				e, err := w.Append(ctx, fmt.Sprint(i, "/", k), said("x"))
				if err != nil {
					t.Error(err)
					return
				}
				if k%10 == 0 {
					records, err := j.Read(ctx, "r1")
					if err != nil || !hasSeq(records, e.Seq) {
						t.Errorf("an append before the read is not in it (%v)", err)
					}
				}
			}
		})
	}
	for range appenders {
		<-half
	}
	leader := must(j.stream.Info(ctx))(t).Cluster.Leader
	for _, s := range servers {
		if s.Name() == leader {
			s.Shutdown()
			s.WaitForShutdown()
		}
	}
	wg.Wait()
	ids := map[string]bool{}
	records := must(j.Read(ctx, "r1"))(t)
	for _, e := range records {
		ids[e.ID] = true
	}
	if len(ids) != appenders*each || len(records) != len(ids) {
		t.Errorf("%d records with %d ids, want %d", len(records), len(ids), appenders*each)
	}
	mu.Lock()
	t.Logf("retried: %v", met)
	mu.Unlock()

	fresh := claim(t, j, "r1", "plan", "n2")
	_, err := w.Append(ctx, "stale", said("x"))
	wantClass(t, err, messages.Fenced, `"n2"`)
	must(fresh.Append(ctx, "new", said("x")))(t)
}

func hasSeq(records []messages.Envelope, seq uint64) bool {
	for _, e := range records {
		if e.Seq == seq {
			return true
		}
	}
	return false
}
