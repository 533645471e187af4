package supervisor

import (
	"context"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// life is what one incarnation has under way outside its turn: its context, the
// askers that it kept, its timers. Most actors never have one.
type life struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	over   bool
	asks   map[*kept]struct{}
	timers map[*timer]struct{}
}

// timer is one Context.After.
type timer struct{ t clockwork.Timer }

func newLife() *life {
	l := &life{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// noLife is the life of an incarnation that is to end, or has ended.
var noLife = func() *life {
	l := newLife()
	l.cancel()
	l.over = true
	return l
}()

// living returns the incarnation's life.
func (c *cell) living() *life {
	if l := c.life.Load(); l != nil {
		return l
	}
	l := newLife()
	if c.life.CompareAndSwap(nil, l) {
		return l
	}
	l.cancel()
	return c.life.Load()
}

// interrupt ends what the incarnation has under way. Who still waits for an
// answer of it gets err; nil says that it stopped. Any goroutine may call it.
func (c *cell) interrupt(err *messages.Error) {
	l := c.life.Swap(noLife)
	if l == nil || l == noLife {
		return
	}
	l.mu.Lock()
	asks, timers := l.asks, l.timers
	l.over, l.asks, l.timers = true, nil, nil
	l.mu.Unlock()
	l.cancel()
	for t := range timers {
		t.t.Stop()
	}
	if len(asks) == 0 {
		return
	}
	if err == nil {
		err = messages.Errorf(messages.Stopping, c.path(), "stopped before it answered")
	}
	for k := range asks {
		k.answer(&refusal{err})
	}
}

// kept is an asker that an incarnation remembers beyond the message's turn.
type kept struct {
	pid  *actor.PID
	cell *cell
	life *life
	once sync.Once
}

func (l *life) keep(k *kept) {
	l.mu.Lock()
	over := l.over
	if !over {
		if l.asks == nil {
			l.asks = map[*kept]struct{}{}
		}
		l.asks[k] = struct{}{}
	}
	l.mu.Unlock()
	if over {
		k.answer(&refusal{messages.Errorf(messages.Stopping, k.cell.path(), "stopped before it answered")})
	}
}

func (k *kept) answer(v any) {
	k.once.Do(func() {
		k.life.mu.Lock()
		delete(k.life.asks, k)
		k.life.mu.Unlock()
		k.cell.sys.root.Send(k.pid, v)
	})
}

// start starts the timer, unless the life is over.
func (l *life) start(t *timer, run func() clockwork.Timer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	if l.timers == nil {
		l.timers = map[*timer]struct{}{}
	}
	l.timers[t] = struct{}{}
	t.t = run()
}

// drop forgets a timer that has fired or was canceled.
func (l *life) drop(t *timer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.t != nil {
		t.t.Stop()
	}
	delete(l.timers, t)
}
