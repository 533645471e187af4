package actors

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// flights are the tool calls of a run that are under way, by idempotency key. A
// call outlives the turn that began it: an agent that is restarted in the
// meantime waits for the call that is in the air, and does not ask for another.
type flights struct {
	mu   sync.Mutex
	all  map[string]*flight
	over atomic.Bool // the run has ended, or was left: no call begins
	// lease is the node's under which the run's writers were claimed.
	lease tenure
}

// closed reports whether no call may begin.
func (fs *flights) closed() bool { return fs.over.Load() || !fs.lease.holds() }

// flight is one tool call.
type flight struct {
	call *toolCall
	done chan struct{}
	// Valid once done is closed:
	end *toolEnd
	err error // why the tool's actor gave no end
}

// toolEnd is what a tool came back with.
type toolEnd struct {
	out string
	err *messages.Error
	// unmade is why the tool was not called after all, nil if it was.
	unmade error
}

// toolCall asks a tool's actor for one call. The answer is a *toolEnd.
type toolCall struct {
	tool   *messages.ToolCall
	effect messages.Effect
	key    string
	of     *flights
	state  atomic.Int32
}

const (
	callWaits int32 = iota
	callTaken
	callWithdrawn
)

// take begins the call; false if nobody wants it any more.
func (c *toolCall) take() bool {
	return !c.of.closed() && c.state.CompareAndSwap(callWaits, callTaken)
}

// confirm makes sure, where calling twice would do harm, that this node may call.
// The agent's turn has waited for that already: what has come between is a
// moment, unless the process was frozen there.
func (c *toolCall) confirm(ctx context.Context) error {
	if c.effect != messages.Unsafe {
		return nil
	}
	return c.of.lease.confirm(ctx)
}

// withdraw reports whether the call was not begun, and now never will be.
func (c *toolCall) withdraw() bool {
	return c.state.CompareAndSwap(callWaits, callWithdrawn) || c.state.Load() == callWithdrawn
}

func (fs *flights) find(key string) *flight {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.all[key]
}

// land forgets a call, once its result is recorded or it is known to be lost.
func (fs *flights) land(key string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.all, key)
}

// start has the tool's actor make a call. within bounds the wait for it.
func (fs *flights) start(to supervisor.Ref, in *messages.Intent, within time.Duration) *flight {
	f := &flight{call: &toolCall{tool: &in.Tool, effect: in.Effect, key: in.Key, of: fs}, done: make(chan struct{})}
	fs.mu.Lock()
	if fs.all == nil {
		fs.all = map[string]*flight{}
	}
	fs.all[in.Key] = f
	fs.mu.Unlock()
	go func() { // ends when the tool's actor answers, or stops, or the call is withdrawn
		defer close(f.done)
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		f.end, f.err = f.ask(ctx, to)
	}()
	return f
}

// ask waits for an actor that is not there yet: its supervisor is about to start
// it.
func (f *flight) ask(ctx context.Context, to supervisor.Ref) (*toolEnd, error) {
	backoff := supervisor.Backoff{Initial: 100 * time.Microsecond, Max: 50 * time.Millisecond}
	for n := 1; ; n++ {
		end, err := supervisor.Ask[*toolEnd](ctx, to, f.call)
		if messages.ClassOf(err) != messages.Unavailable || f.call.state.Load() != callWaits {
			return end, err
		}
		t := time.NewTimer(backoff.Wait(n, nil))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, err
		}
	}
}
