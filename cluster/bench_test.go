package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// BenchmarkDurableStep compares a journal append with a plain JetStream publish
// of the same bytes under an expected last sequence, one after the other on the
// same server.
func BenchmarkDurableStep(b *testing.B) {
	for _, d := range []Durability{SurviveProcess, SurvivePower} {
		b.Run(string(d), func(b *testing.B) { durableStep(b, d) })
	}
}

func durableStep(b *testing.B, d Durability) {
	n := startEmbedded(b, b.TempDir(), d)
	ctx := b.Context()
	j := must(openJournal(ctx, n.nc, journalOptions{}))(b)
	w := claim(b, j, "r1", "plan", "n1")
	raw := claim(b, j, "r2", "plan", "n1") // only for its fence
	body := &messages.Answered{Reply: messages.Reply{Step: "round/1/historian", From: "historian", Answer: &messages.Answer{Text: strings.Repeat("x", 300)}}}

	var ours, theirs []time.Duration
	for b.Loop() {
		start := time.Now()
		e, err := w.Append(ctx, "round/1/historian", body)
		ours = append(ours, time.Since(start))
		ok(b, err)

		e.ID, e.Run = raw.prefix+fmt.Sprint(len(ours)), "r2"
		h, data, err := messages.Encode(e)
		ok(b, err)
		m := &nats.Msg{Subject: raw.subject, Header: h, Data: data}
		start = time.Now()
		_, err = j.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequenceForSubject(raw.claim, raw.claimSubject))
		theirs = append(theirs, time.Since(start))
		ok(b, err)
	}
	p50 := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2].Nanoseconds())
	}
	b.ReportMetric(p50(ours), "append-p50-ns")
	b.ReportMetric(p50(theirs), "raw-p50-ns")
	b.ReportMetric(p50(ours)/p50(theirs), "append/raw")
	b.ReportMetric(0, "ns/op")
}
