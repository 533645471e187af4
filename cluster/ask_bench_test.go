package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/covey-run/covey/messages"
)

// BenchmarkAsk compares messages between two nodes' connections, to a server in
// a process of its own, with raw requests of the same bytes between two others:
// in turn, by one caller and by 64. send is one message and its receipt, to be
// compared with one raw request; ask is an ask and its reply, each with its
// receipt, to be compared with two.
func BenchmarkAsk(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint(callers, "-callers"), func(b *testing.B) { benchAsk(b, callers) })
	}
}

func benchAsk(b *testing.B, callers int) {
	url, _ := startNATS(b)
	near, far := newBus(connectRaw(b, url)), newBus(connectRaw(b, url))
	b.Cleanup(near.close)
	b.Cleanup(far.close)
	ctx := b.Context()
	ask := messages.Envelope{ID: "r1/plan/5/1", Run: "r1", Writer: "plan", Step: "7", Time: now(), Body: &messages.Ask{Step: "7", From: "plan", To: "a", Prompt: strings.Repeat("x", 300)}}
	reply := func(step string) messages.Envelope {
		return messages.Envelope{ID: "r1/a/6/1", Run: "r1", Writer: "a", Step: step, Time: now(), Body: &messages.Reply{Step: step, From: "a", Answer: &messages.Answer{Text: strings.Repeat("y", 300)}}}
	}
	var failed sync.Map
	must(far.Serve("r1", "silent", func(messages.Envelope) {}))(b)
	must(far.Serve("r1", "a", func(e messages.Envelope) {
		go func() {
			if err := far.Send(ctx, "r1", "plan", reply(e.Step)); err != nil {
				failed.Store(e.Step, err)
			}
		}()
	}))(b)
	replies := make([]chan struct{}, callers)
	for i := range replies {
		replies[i] = make(chan struct{}, 1)
	}
	must(near.Serve("r1", "plan", func(e messages.Envelope) {
		var n int
		if _, err := fmt.Sscan(e.Step, &n); err == nil {
			replies[n] <- struct{}{}
		}
	}))(b)

	rawNear, rawFar := connectRaw(b, url), connectRaw(b, url)
	must(rawFar.Subscribe("raw", func(m *nats.Msg) { _ = m.Respond([]byte(busReceipt)) }))(b)
	ok(b, rawFar.Flush())
	h, data, err := messages.Encode(ask)
	ok(b, err)

	ways := []struct {
		name string
		call func(caller int) error
	}{
		{"raw", func(int) error {
			tctx, cancel := context.WithTimeout(ctx, busAttempt)
			defer cancel()
			_, err := rawNear.RequestMsgWithContext(tctx, &nats.Msg{Subject: "raw", Header: h, Data: data})
			return err
		}},
		{"send", func(int) error { return near.Send(ctx, "r1", "silent", ask) }},
		{"ask", func(caller int) error {
			e := ask
			e.Step = fmt.Sprint(caller)
			if err := near.Send(ctx, "r1", "a", e); err != nil {
				return err
			}
			select {
			case <-replies[caller]:
				return nil
			case <-time.After(10 * time.Second):
				err, _ := failed.Load(e.Step)
				return fmt.Errorf("no reply: %v", err)
			}
		}},
	}
	const each = 20 // calls in a row of one way
	took := make([]spread, len(ways))
	var whole [3]time.Duration
	for b.Loop() {
		for w, way := range ways {
			times := make([]spread, callers)
			began := time.Now()
			var wg sync.WaitGroup
			for c := range callers {
				wg.Go(func() {
					for range each {
						start := time.Now()
						if err := way.call(c); err != nil {
							b.Errorf("%s: %v", way.name, err)
							return
						}
						times[c] = append(times[c], time.Since(start))
					}
				})
			}
			wg.Wait()
			whole[w] += time.Since(began)
			for _, t := range times {
				took[w] = append(took[w], t...)
			}
		}
	}
	for w, way := range ways {
		b.ReportMetric(took[w].at(0.5)*1e3, way.name+"-µs-p50")
		b.ReportMetric(float64(len(took[w]))/whole[w].Seconds(), way.name+"/s")
	}
	b.ReportMetric(took[1].at(0.5)/took[0].at(0.5), "send/raw-p50")
	b.ReportMetric(whole[1].Seconds()/whole[0].Seconds(), "send/raw-whole")
	b.ReportMetric(took[2].at(0.5)/took[0].at(0.5), "ask/raw-p50")
	quiet(b)
}
