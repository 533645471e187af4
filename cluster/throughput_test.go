package cluster

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/covey-run/covey/messages"
)

func init() { children["appender"] = childAppender }

// stepsAtOnce is how many runs a node works on at once, and how many writers an
// appender has.
const stepsAtOnce = 16

// BenchmarkSteps is how many durable steps a second 1, 2 and 4 nodes make, each a
// process that works on 16 runs at once: a step is a record of 300 bytes. Beside
// it, in turn, as many processes append as many records of the same bytes to
// another stream of the same server, 16 at once each.
func BenchmarkSteps(b *testing.B) {
	for _, n := range []int{1, 2, 4} {
		b.Run(fmt.Sprint(n, "-nodes"), func(b *testing.B) { benchSteps(b, n) })
	}
}

func benchSteps(b *testing.B, processes int) {
	const runs, each = 64, 500 // steps of a run
	url, _ := startNATS(b)
	client := newFiguresClient(b, url)
	raw := journalConfig(1)
	raw.Name, raw.Subjects = "RAW", []string{"raw.>"}
	must(client.journal.js.CreateStream(b.Context(), raw))(b)
	var appenders []*child
	for i := range processes {
		childNodeOn(b, url, fmt.Sprint("n", i), stepsAtOnce)
		appenders = append(appenders, startChild(b, "appender", "URL="+url))
		appenders[i].expect("ready")
	}
	var ours, theirs time.Duration
	round := 0
	for b.Loop() {
		round++
		began := time.Now()
		for i := range runs {
			_, err := client.queue.submit(b.Context(), messages.Task{ID: fmt.Sprintf("r%d-%d", round, i), Team: "steps", Prompt: fmt.Sprint(each), Submitted: now()})
			ok(b, err)
		}
		for tasksLeft(b, client) > 0 {
			time.Sleep(5 * time.Millisecond)
		}
		ours += time.Since(began)

		began = time.Now()
		for _, a := range appenders {
			a.order("%d", runs*each/processes)
		}
		for _, a := range appenders {
			a.expect("done")
		}
		theirs += time.Since(began)
	}
	total := float64(round * runs * each)
	b.ReportMetric(total/ours.Seconds(), "steps/s")
	b.ReportMetric(total/theirs.Seconds(), "raw-appends/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "steps/appends")
	quiet(b)
}

// tasksLeft counts the tasks that are not done. Listening to the records would
// take processor time from those who write them.
func tasksLeft(b *testing.B, c *Client) uint64 {
	b.Helper()
	return must(c.queue.stream.Info(b.Context()))(b).State.Msgs
}

// childAppender appends as many records as it is told, as a client would that
// has only JetStream: each waits for its acknowledgement.
func childAppender() {
	nc, err := nats.Connect(os.Getenv("URL"))
	check(err)
	js, err := jetstream.New(nc)
	check(err)
	prefix := nuid.Next()
	body := &messages.Decided{Name: "step", Value: []byte(`"` + strings.Repeat("x", 300) + `"`)}
	h, data, err := messages.Encode(messages.Envelope{Run: "r1-1", Writer: "plan", Step: "1", Time: now(), Body: body})
	check(err)
	in := orders()
	fmt.Println("ready")
	var n int
	for line := range in {
		count, err := strconv.Atoi(line)
		check(err)
		var wg sync.WaitGroup
		for w := range stepsAtOnce {
			first := n
			n += count / stepsAtOnce
			wg.Go(func() {
				subject := fmt.Sprintf("raw.%s.%d", prefix, w)
				for i := range count / stepsAtOnce {
					m := &nats.Msg{Subject: subject, Header: nats.Header{}, Data: data}
					for k, v := range h {
						m.Header[k] = v
					}
					_, err := js.PublishMsg(context.Background(), m, jetstream.WithMsgID(fmt.Sprintf("%s/%d", prefix, first+i)))
					check(err)
				}
			})
		}
		wg.Wait()
		fmt.Println("done")
	}
}
