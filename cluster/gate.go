package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/messages"
)

// breakerBucket is the KV bucket in which nodes tell each other of their
// breakers: open.<name> is an opening, probe.<name> the right to make the one
// probe at half-open.
const breakerBucket = "COVEY_BREAKERS"

const (
	openKey  = "open."
	probeKey = "probe."
	// defaultProbeTTL is how long a dead node keeps the right to probe. A live one
	// renews it every third of that.
	defaultProbeTTL = 6 * time.Second
	// gateWait bounds the wait for the others' word; after it a node goes on
	// alone.
	gateWait = 100 * time.Millisecond
	// tellWait bounds one try to tell the others, giveWait the one try to give
	// the right to probe back.
	tellWait = 2 * time.Second
	giveWait = 500 * time.Millisecond
)

// opening is what a node says of a breaker that it opened. Nodes compare Until
// with their own clocks: a skew between machines shifts their reopening by as
// much.
type opening struct {
	Node  string          `json:"node"`
	Until time.Time       `json:"until"`
	Cause *messages.Error `json:"cause,omitempty"`
}

// gate is a [provider.Gate] over a KV bucket. What it hears is given to Heard;
// what it has to say is said by a goroutine of its own, the newest word on each
// breaker only, and again when NATS is back.
type gate struct {
	node   string
	js     jetstream.JetStream
	kv     jetstream.KeyValue
	stream jetstream.Stream // under kv
	heard  heard
	warn   func(error)
	ttl    time.Duration // of a dead node's right to probe

	mu   sync.Mutex
	say  map[string]*opening // by key; nil: closed
	wake chan struct{}

	ctx  context.Context
	quit context.CancelFunc
	wg   sync.WaitGroup
}

// heard are told what other nodes, and this one, said of a breaker. They must
// not block.
type heard struct {
	Opened func(name string, until time.Time, cause *messages.Error)
	Closed func(name string)
}

// openGate joins the bucket, and makes it if it is not there. Openings that are
// known already are told before it returns.
func openGate(ctx context.Context, nc *nats.Conn, replicas int, node string, h heard, warn func(error)) (*gate, error) {
	js, err := jetStream(nc)
	if err != nil {
		return nil, err
	}
	g := &gate{node: node, js: js, heard: h, warn: warn, ttl: defaultProbeTTL, say: map[string]*opening{}, wake: make(chan struct{}, 1)}
	ctx, cancel := context.WithTimeout(ctx, openIn)
	defer cancel()
	g.kv, err = openBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: breakerBucket, Description: "Covey: breakers that are open", Replicas: replicas, LimitMarkerTTL: time.Minute,
	})
	if err == nil {
		g.stream, err = bucketStream(ctx, js, breakerBucket)
	}
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, "bucket "+breakerBucket)
	}
	g.ctx, g.quit = context.WithCancel(context.Background())
	known := make(chan struct{})
	listen, err := keyWatch{
		nc: nc, kv: g.kv, keys: openKey + "*", take: g.take, listed: sync.OnceFunc(func() { close(known) }),
	}.begin(g.ctx)
	if err != nil {
		g.quit()
		return nil, messages.AsError(err, messages.Unavailable, "bucket "+breakerBucket)
	}
	g.wg.Go(listen)
	g.wg.Go(g.tell)
	select {
	case <-known:
	case <-ctx.Done(): // the rest comes as it comes
	}
	return g, nil
}

// close ends it; what was not said is not said any more.
func (g *gate) close() {
	g.mu.Lock()
	g.quit()
	g.mu.Unlock()
	g.wg.Wait()
}

// take hears what is said, its own words too: every node ends with the last word
// that the bucket took.
func (g *gate) take(e jetstream.KeyValueEntry) {
	name, err := unkey(strings.TrimPrefix(e.Key(), openKey))
	if err != nil {
		g.warn(err)
		return
	}
	if e.Operation() == jetstream.KeyValuePurge { // its time has run out
		return
	}
	if e.Operation() == jetstream.KeyValueDelete {
		g.heard.Closed(name)
		return
	}
	var o opening
	if err := json.Unmarshal(e.Value(), &o); err != nil {
		g.warn(messages.Errorf(messages.Invalid, "bucket "+breakerBucket, "%s: %w", e.Key(), err))
		return
	}
	if time.Until(o.Until) > 0 {
		g.heard.Opened(name, o.Until, o.Cause)
	}
}

// Opened is part of [provider.Gate].
func (g *gate) Opened(name string, until time.Time, cause *messages.Error) {
	g.put(name, &opening{Node: g.node, Until: until.UTC(), Cause: brief(cause)})
}

// Closed is part of [provider.Gate].
func (g *gate) Closed(name string) { g.put(name, nil) }

func (g *gate) put(name string, o *opening) {
	g.mu.Lock()
	g.say[openKey+keyOf(name)] = o
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// brief is a failure without stacks and history, for the others.
func brief(e *messages.Error) *messages.Error {
	if e == nil {
		return nil
	}
	return &messages.Error{Class: e.Class, Source: e.Source, Message: messages.AsError(e, "", "").Message, Status: e.Status}
}

// tell says what there is to say, until it has been heard or is out of date.
func (g *gate) tell() {
	for attempt := 0; ; {
		g.mu.Lock()
		var key string
		var o *opening
		for key, o = range g.say {
			break
		}
		g.mu.Unlock()
		if key == "" {
			attempt = 0
			select {
			case <-g.wake:
				continue
			case <-g.ctx.Done():
				return
			}
		}
		err := g.publish(key, o)
		if err == nil || !passes(err) {
			if err != nil {
				g.warn(messages.AsError(err, messages.Unavailable, "bucket "+breakerBucket))
			}
			g.mu.Lock()
			if g.say[key] == o {
				delete(g.say, key)
			}
			g.mu.Unlock()
			continue
		}
		attempt++
		if retrying(nil).pause(g.ctx, "bucket "+breakerBucket, attempt, time.Now(), err) != nil {
			return
		}
	}
}

// errOvertaken: another node said something in the same moment; it passes.
var errOvertaken = errors.New("another node was faster")

func (g *gate) publish(key string, o *opening) error {
	ctx, cancel := context.WithTimeout(g.ctx, tellWait)
	defer cancel()
	if o == nil {
		return g.kv.Delete(ctx, key)
	}
	left := time.Until(o.Until)
	if left <= 0 {
		return nil
	}
	data, err := json.Marshal(o)
	if err != nil {
		return messages.AsError(err, messages.Invalid, key)
	}
	// KeyValue.Put takes no lifetime; whole seconds, rounded up.
	m := &nats.Msg{Subject: "$KV." + breakerBucket + "." + key, Data: data}
	// KeyValue.Get does not tell the sequence of a key that was deleted.
	var last uint64
	switch was, err := g.stream.GetLastMsgForSubject(ctx, m.Subject); {
	case err == nil:
		last = was.Sequence
		var there opening
		if json.Unmarshal(was.Data, &there) == nil && there.Until.After(o.Until) {
			return nil // of two openings the later end holds, here as everywhere
		}
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		return err
	}
	_, err = g.js.PublishMsg(ctx, m, jetstream.WithMsgTTL(left.Truncate(time.Second)+time.Second), jetstream.WithExpectLastSequencePerSubject(last))
	if apiCode(err) == jetstream.JSErrCodeStreamWrongLastSequence {
		return errOvertaken
	}
	return err
}

// Probe is part of [provider.Gate].
func (g *gate) Probe(ctx context.Context, name string, _ time.Time) (release func(ok bool), granted bool) {
	ctx, cancel := context.WithTimeout(ctx, gateWait)
	defer cancel()
	key := probeKey + keyOf(name)
	rev, err := g.kv.Create(ctx, key, []byte(g.node), jetstream.KeyTTL(g.ttl))
	switch {
	case err == nil:
	case errors.Is(err, jetstream.ErrKeyExists):
		return nil, false
	default: // nobody to ask
		return func(bool) {}, true
	}
	held, end := context.WithCancel(g.ctx)
	hold := func() {
		defer end()
		g.give(key, g.keep(held, key, rev))
	}
	g.mu.Lock()
	if g.ctx.Err() == nil {
		g.wg.Go(hold)
	}
	g.mu.Unlock()
	return func(bool) { end() }, true
}

// keep renews the right to probe until ctx ends, and returns its last revision.
func (g *gate) keep(ctx context.Context, key string, rev uint64) uint64 {
	tick := time.NewTicker(g.ttl / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return rev
		}
		m := &nats.Msg{Subject: "$KV." + breakerBucket + "." + key, Data: []byte(g.node)}
		tctx, cancel := context.WithTimeout(g.ctx, tellWait)
		ack, err := g.js.PublishMsg(tctx, m, jetstream.WithMsgTTL(g.ttl), jetstream.WithExpectLastSequencePerSubject(rev))
		cancel()
		if err == nil {
			rev = ack.Sequence
		}
	}
}

// give gives the right to probe back. Where that fails it runs out by itself.
func (g *gate) give(key string, rev uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), giveWait)
	defer cancel()
	_ = g.kv.Delete(ctx, key, jetstream.LastRevision(rev))
}

// keyOf spells a breaker's name with what a KV key may hold; a byte that it may
// not becomes = and two hexadecimal digits. unkey reads it back.
func keyOf(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '/':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

func unkey(k string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(k); i++ {
		if k[i] != '=' {
			b.WriteByte(k[i])
			continue
		}
		var c byte
		if i+3 > len(k) {
			return "", messages.Errorf(messages.Invalid, "bucket "+breakerBucket, "key %q names no breaker", k)
		}
		if _, err := fmt.Sscanf(k[i+1:i+3], "%02X", &c); err != nil {
			return "", messages.Errorf(messages.Invalid, "bucket "+breakerBucket, "key %q names no breaker", k)
		}
		b.WriteByte(c)
		i += 2
	}
	return b.String(), nil
}
