package cluster

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func claim(t testing.TB, j *journal, run, name, node string) *writer {
	t.Helper()
	return must(j.Claim(testCtx(t), run, name, messages.Claim{Node: node}))(t).(*writer)
}

func TestAppendAndRead(t *testing.T) {
	j, _ := startJournal(t)
	ctx := testCtx(t)
	plan, member := claim(t, j, "r1", "plan", "n1"), claim(t, j, "r1", "press/historian", "n1")
	other := claim(t, j, "r2", "plan", "n1")
	var want []messages.Envelope
	for i := range 20 {
		for _, w := range []actors.Writer{plan, member} {
			want = append(want, must(w.Append(ctx, fmt.Sprint("step/", i), said("é\n…")))(t))
		}
		must(other.Append(ctx, "x", said("other")))(t)
	}
	got := must(j.Read(ctx, "r1"))(t)
	if !reflect.DeepEqual(want, got) {
		t.Errorf("Append returned\n%+v\nand Read gives\n%+v", want, got)
	}
	if got := must(j.Read(ctx, "nobody"))(t); len(got) != 0 {
		t.Errorf("a run that is not there has %d records", len(got))
	}
	_, err := j.Read(ctx, "r1.>")
	wantClass(t, err, messages.Invalid, "r1.>")
}

func TestAStaleOwnerIsRefused(t *testing.T) {
	j, _ := startJournal(t)
	ctx := testCtx(t)
	old := claim(t, j, "r1", "plan", "n1")
	must(old.Append(ctx, "1", said("old")))(t)
	fresh := claim(t, j, "r1", "plan", "n2")
	_, err := old.Append(ctx, "2", said("stale"))
	wantClass(t, err, messages.Fenced, "run r1", "writer plan", `"n1"`, `"n2"`)
	must(fresh.Append(ctx, "2", said("new")))(t)
	_, err = old.Append(ctx, "3", said("stale"))
	wantClass(t, err, messages.Fenced)

	var texts []string
	for _, e := range must(j.Read(ctx, "r1"))(t) {
		texts = append(texts, textOf(e))
	}
	if !slices.Equal(texts, []string{"old", "new"}) {
		t.Errorf("records %q", texts)
	}
}

// A frozen process does not know that it was presumed dead. Its claim is taken
// over while it is stopped, and it wakes up in the middle of its appends.
func TestAFrozenOwnerWakesUp(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	ctx := testCtx(t)
	j := must(openJournal(ctx, dialURL(t, url), journalOptions{}))(t)
	for range 3 {
		c := startChild(t, "writer", "URL="+url)
		c.expect("writing")
		ok(t, c.cmd.Process.Signal(syscall.SIGSTOP))
		w := claim(t, j, "r1", "plan", "survivor")
		before := len(must(j.Read(ctx, "r1"))(t))
		ok(t, c.cmd.Process.Signal(syscall.SIGCONT))
		must(w.Append(ctx, "s", said("survivor")))(t)
		if class := c.expect("refused"); class != string(messages.Fenced) {
			t.Fatalf("the stale owner got %q", class)
		}
		after := must(j.Read(ctx, "r1"))(t)
		for _, e := range after {
			if e.Seq > w.claim && textOf(e) != "survivor" {
				t.Errorf("sequence %d after the takeover (%d) is the stale owner's", e.Seq, w.claim)
			}
		}
		if len(after) != before+1 {
			t.Errorf("%d records at the takeover, %d after one append", before, len(after))
		}
		c.kill()
	}
}

func TestARetryAfterALostAckIsStoredOnce(t *testing.T) {
	j, _ := startJournal(t)
	ctx := testCtx(t)
	w := claim(t, j, "r1", "plan", "n1")
	// The first copy of each append goes past the publisher, as one whose ack was
	// lost; the publisher's own comes second.
	for i := range 20 {
		e := messages.Envelope{ID: w.prefix + fmt.Sprint(i+1), Run: "r1", Writer: "plan", Step: fmt.Sprint(i), Time: now(), Body: said("x")}
		h, data, err := messages.Encode(e)
		ok(t, err)
		h[jetstream.ExpectedLastSubjSeqHeader], h[jetstream.ExpectedLastSubjSeqSubjHeader] = w.expectSeq, w.expectSubject
		first := must(j.js.PublishMsg(ctx, &nats.Msg{Subject: w.subject, Header: h, Data: data}))(t)
		if got := must(w.Append(ctx, fmt.Sprint(i), said("x")))(t); got.Seq != first.Sequence {
			t.Fatalf("stored at %d, and its retry at %d", first.Sequence, got.Seq)
		}
	}
	if got := must(j.Read(ctx, "r1"))(t); len(got) != 20 {
		t.Errorf("%d records of 20", len(got))
	}
}

// After the duplicate window JetStream has forgotten the message id: a retry
// looks for its first copy in the stream.
func TestARetryBeyondTheWindowFindsItsFirstCopy(t *testing.T) {
	j, _ := startJournal(t)
	ctx := testCtx(t)
	w := claim(t, j, "r1", "plan", "n1")
	for i := range 5 {
		must(w.Append(ctx, fmt.Sprint(i), said("x")))(t)
	}
	third := must(j.Read(ctx, "r1"))(t)[2]
	p := pending{what: w, stored: func(ctx context.Context) (uint64, bool, error) {
		return j.find(ctx, w.subject, w.claim+1, third.ID)
	}}
	a := must(j.pub.try(ctx, p, time.Now().Add(-dedupWindow)))(t) // there is no message to publish: it must not try
	if a.Seq != third.Seq || !a.Duplicate {
		t.Errorf("found %+v, want sequence %d", a, third.Seq)
	}
	if _, found, err := j.find(ctx, w.subject, w.claim+1, "never sent"); found || err != nil {
		t.Errorf("found %t, %v", found, err)
	}
}

// The server is shut down and started again, twice, while 8 writers append.
// Every append that was acknowledged is there once, and none failed.
func TestServerRestartInMidAppend(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), freePort(t)
	url, stop := listen(t, dir, port)
	ctx := testCtx(t)
	var waited atomic.Int64
	j := must(openJournal(ctx, dialURL(t, url), journalOptions{Retrying: func(string, int, error) { waited.Add(1) }}))(t)
	const writers = 8
	var mu sync.Mutex
	var acked [writers]int
	grown := sync.NewCond(&mu)
	defer context.AfterFunc(ctx, grown.Broadcast)()
	reached := func(n int) { // waits until every writer has n acknowledgements
		mu.Lock()
		defer mu.Unlock()
		for slices.Min(acked[:]) < n && ctx.Err() == nil {
			grown.Wait()
		}
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for i := range writers {
		w := claim(t, j, fmt.Sprint("r", i), "plan", "n1")
		wg.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-quit:
					return
				default:
				}
				if _, err := w.Append(ctx, fmt.Sprint(k), said("x")); err != nil {
					t.Errorf("writer %d, append %d: %v", i, k, err)
					return
				}
				mu.Lock()
				acked[i]++
				mu.Unlock()
				grown.Broadcast()
			}
		})
	}
	for round := range 2 {
		reached((round*2 + 1) * 50)
		stop()
		_, stop = listen(t, dir, port)
		reached((round*2 + 2) * 50)
	}
	close(quit)
	wg.Wait()
	if waited.Load() == 0 {
		t.Error("no append met a server that was away: this test must reach that edge")
	}
	for i := range writers {
		records := must(j.Read(ctx, fmt.Sprint("r", i)))(t)
		if len(records) != acked[i] {
			t.Errorf("writer %d: %d acknowledged, %d records", i, acked[i], len(records))
		}
		for k, e := range records {
			if e.Step != fmt.Sprint(k) {
				t.Errorf("writer %d: record %d is of step %s", i, k, e.Step)
				break
			}
		}
	}
}

func TestAppendWithoutAServerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	url, stop := listen(t, t.TempDir(), freePort(t))
	j := must(openJournal(testCtx(t), dialURL(t, url), journalOptions{}))(t)
	w := claim(t, j, "r1", "plan", "n1")
	stop()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := w.Append(ctx, "1", said("x"))
	wantClass(t, err, messages.Timeout, "run r1", "given up after")
	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	_, err = w.Append(ctx, "1", said("x"))
	wantClass(t, err, messages.Canceled, "run r1")
	_, err = j.Read(ctx, "r1")
	wantClass(t, err, messages.Canceled)
	j.nc.Close()
	_, err = w.Append(context.Background(), "1", said("x"))
	wantClass(t, err, messages.Stopping)
}

func TestThirtyTwoWritersAtOnce(t *testing.T) {
	j, _ := startJournal(t)
	ctx := testCtx(t)
	const writers, each = 32, 50
	var wg sync.WaitGroup
	for i := range writers {
		w := claim(t, j, "r1", fmt.Sprint("m", i), "n1")
		wg.Go(func() {
			for k := range each {
				if _, err := w.Append(ctx, fmt.Sprint(k), said("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	// One writer used by many goroutines.
	shared := claim(t, j, "r1", "shared", "n1")
	for i := range 8 {
		wg.Go(func() {
			for k := range each {
				if _, err := shared.Append(ctx, fmt.Sprint(i, "/", k), said("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	next := map[string]int{}
	seen := map[string]bool{}
	var last uint64
	for _, e := range must(j.Read(ctx, "r1"))(t) {
		if e.Seq <= last || seen[e.ID] {
			t.Fatalf("sequence %d after %d, id %s", e.Seq, last, e.ID)
		}
		last, seen[e.ID] = e.Seq, true
		if e.Writer != "shared" && e.Step != fmt.Sprint(next[e.Writer]) {
			t.Fatalf("writer %s: step %s, want %d", e.Writer, e.Step, next[e.Writer])
		}
		next[e.Writer]++
	}
	if len(seen) != (writers+8)*each {
		t.Errorf("%d records of %d", len(seen), (writers+8)*each)
	}
}

func TestAMessageTooLarge(t *testing.T) {
	j, _ := startJournal(t)
	ctx := testCtx(t)
	w := claim(t, j, "r1", "plan", "n1")
	_, err := w.Append(ctx, "1", said(strings.Repeat("x", maxPayload)))
	wantClass(t, err, messages.Invalid, "run r1", fmt.Sprint(maxPayload), "too large")
	big := strings.Repeat("x", maxPayload*2/3)
	for range 2 { // more than one batch's bytes
		must(w.Append(ctx, "2", said(big)))(t)
	}
	if got := must(j.Read(ctx, "r1"))(t); len(got) != 2 || textOf(got[1]) != big {
		t.Errorf("%d large records", len(got))
	}
}

func TestReadOfALongRun(t *testing.T) {
	j, _ := startJournal(t)
	ctx := testCtx(t)
	w := claim(t, j, "r1", "plan", "n1")
	for _, n := range []int{batchRecords + 1, consumerAbove + 1} {
		for have := len(must(j.Read(ctx, "r1"))(t)); have < n; have++ {
			// Straight to the server, unacknowledged, for speed.
			h, data, err := messages.Encode(messages.Envelope{ID: fmt.Sprint(have), Run: "r1", Writer: "plan", Step: fmt.Sprint(have), Body: said("x")})
			ok(t, err)
			ok(t, j.nc.PublishMsg(&nats.Msg{Subject: w.subject, Header: h, Data: data}))
		}
		must(w.Append(ctx, "last", said("x")))(t)
		got := must(j.Read(ctx, "r1"))(t)
		if got[len(got)-1].Step != "last" {
			t.Fatalf("an append before the read is not in it: %d records, the last is %s", len(got), got[len(got)-1].Step)
		}
		for i := 1; i < len(got); i++ {
			if got[i].Seq <= got[i-1].Seq {
				t.Fatalf("out of order at %d", i)
			}
		}
	}
}

func TestARecordOfANewerProgramIsNotSkipped(t *testing.T) {
	j, _ := startJournal(t)
	ctx := testCtx(t)
	for _, c := range []struct {
		run, version, kind, data string
		is                       error
		class                    messages.Class
	}{
		{"newer", "99", "said", "{}", messages.ErrVersion, messages.Unavailable},
		{"kind", "1", "telepathy", "{}", messages.ErrKind, messages.Unavailable},
		{"damaged", "1", "said", "{", messages.ErrWire, messages.Invalid},
	} {
		t.Run(c.run, func(t *testing.T) {
			w := claim(t, j, c.run, "plan", "n1")
			must(w.Append(ctx, "1", said("x")))(t)
			a := must(j.js.PublishMsg(ctx, &nats.Msg{Subject: w.subject, Data: []byte(c.data), Header: nats.Header{
				messages.HeaderVersion: {c.version}, messages.HeaderKind: {c.kind}, messages.HeaderRun: {c.run},
			}}))(t)
			_, err := j.Read(ctx, c.run)
			wantClass(t, err, c.class, "run "+c.run, fmt.Sprint("sequence ", a.Sequence))
			if !errors.Is(err, c.is) {
				t.Errorf("not %v: %v", c.is, err)
			}
			var last error
			for _, err := range j.Follow(ctx, c.run) {
				last = err
			}
			if !errors.Is(last, c.is) {
				t.Errorf("Follow: not %v: %v", c.is, last)
			}
		})
	}
	infos, err := j.Runs(ctx, func(messages.Claim) bool { return true })
	if len(infos) != 3 || errors.Is(err, messages.ErrVersion) || errors.Is(err, messages.ErrKind) || !errors.Is(err, messages.ErrWire) {
		t.Errorf("Runs gave %d lines, and %v", len(infos), err)
	}
	for _, i := range infos {
		if newer := i.Run != "damaged"; newer != (i.State == messages.RunNewer) || newer != (i.Error != nil) {
			t.Errorf("%+v", i)
		}
	}
}

func TestPurgeFencesTheOwner(t *testing.T) {
	t.Parallel()
	j, _ := startJournal(t)
	ctx := testCtx(t)
	w := claim(t, j, "r1", "plan", "n1")
	must(w.Append(ctx, "1", said("x")))(t)
	keep := claim(t, j, "r2", "plan", "n1")
	must(keep.Append(ctx, "1", said("x")))(t)
	ok(t, j.Purge(ctx, "r1"))
	if got := must(j.Read(ctx, "r1"))(t); len(got) != 0 {
		t.Errorf("%d records left", len(got))
	}
	if got := must(j.Read(ctx, "r2"))(t); len(got) != 1 {
		t.Errorf("the other run has %d records", len(got))
	}
	_, err := w.Append(ctx, "2", said("x"))
	wantClass(t, err, messages.Fenced, "purged")
}

func TestAStreamThatDoesNotFitIsLeftAsItIs(t *testing.T) {
	n := startEmbedded(t, t.TempDir(), "")
	js := must(jetStream(n.nc))(t)
	bad := journalConfig(1)
	bad.MaxAge, bad.AllowDirect, bad.Duplicates = time.Hour, false, time.Second
	must(js.CreateStream(testCtx(t), bad))(t)
	_, err := openJournal(testCtx(t), n.nc, journalOptions{})
	wantClass(t, err, messages.Invalid, journalStream, "1h0m0s", "direct get", "duplicate window")
	if !errors.Is(err, ErrMisfit) {
		t.Errorf("not ErrMisfit: %v", err)
	}
	if s := must(js.Stream(testCtx(t), journalStream))(t); s.CachedInfo().Config.MaxAge != time.Hour {
		t.Error("the stream was changed")
	}
}

func TestOpeningTwiceKeepsEverything(t *testing.T) {
	for _, d := range []Durability{SurviveProcess, SurvivePower} {
		t.Run(string(d), func(t *testing.T) {
			dir := t.TempDir()
			n := startEmbedded(t, dir, d)
			j := must(openJournal(testCtx(t), n.nc, journalOptions{}))(t)
			must(claim(t, j, "r1", "plan", "n1").Append(testCtx(t), "1", said("x")))(t)
			n.nc.Close()
			n.srv.stop()
			n = startEmbedded(t, dir, d)
			j = must(openJournal(testCtx(t), n.nc, journalOptions{}))(t)
			if got := must(j.Read(testCtx(t), "r1"))(t); len(got) != 1 {
				t.Errorf("%d records", len(got))
			}
		})
	}
	wantClass(t, Durability("nuclear").Check(), messages.Invalid, "nuclear", "process", "power")
}
