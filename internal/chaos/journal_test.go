package chaos

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/messages"
)

// The journal is read in its order, across the death of the server.
func TestFollow(t *testing.T) {
	p, _, js := startNATS(t)
	until(t, "a journal", func(ctx context.Context) error {
		_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: journalStream, Subjects: []string{"covey.runs.>", "covey.claims.>"}})
		return err
	})
	write := func(subject, id string, body messages.Body) {
		t.Helper()
		h, data, err := messages.Encode(messages.Envelope{ID: id, Run: "r1", Writer: "plan", Time: noon, Body: body})
		ok(t, err)
		until(t, "a record", func(ctx context.Context) error {
			_, err := js.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: h, Data: data})
			return err
		})
	}
	j := journal{js}
	heard := make(chan record, 10)
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error)
	go func() { end <- j.follow(ctx, 0, func(r record) bool { heard <- r; return true }) }()
	write("covey.claims.r1.plan", "r1/plan/claim/x", &messages.Claim{Node: "node-1"})
	if r := <-heard; r.claim() == nil || r.Seq != 1 || r.stored.IsZero() {
		t.Errorf("%+v", r)
	}
	p.kill()
	ok(t, p.start())
	write("covey.runs.r1.plan", "r1/plan/1/1", &messages.Begun{})
	r := <-heard
	if under, err := r.under(); err != nil || under != 1 || r.Seq != 2 || r.claim() != nil {
		t.Errorf("%+v, under %d, %v", r, under, err)
	}
	cancel()
	if err := <-end; messages.ClassOf(err) == "" {
		t.Error(err)
	}
	all, err := j.all(t.Context())
	if err != nil || len(all) != 2 {
		t.Errorf("%d records, %v", len(all), err)
	}
	finds(t, fence(all))
	write("covey.runs.r1.plan", "", &messages.Begun{})
	if all, err = j.all(t.Context()); err != nil || len(all) != 3 {
		t.Errorf("%d records, %v", len(all), err)
	}
	finds(t, fence(all), "names no claim")
	if _, err := j.leases(t.Context()); messages.ClassOf(err) != messages.Unavailable {
		t.Error(err)
	}
}
