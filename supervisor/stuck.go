package supervisor

import (
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// stuckAfter is how long a child may take to stop before it is named.
const stuckAfter = time.Second

// watchStop names, after a while, those of cells whose incarnation has not
// ended: each is in a handler that blocks. It is called before they are told.
func (s *System) watchStop(cells ...*cell) clockwork.Timer {
	halts := make([]uint64, len(cells))
	for i, c := range cells {
		halts[i] = c.halts.Load()
	}
	return s.clock.AfterFunc(stuckAfter, func() {
		for i, c := range cells {
			if c.halts.Load() == halts[i] {
				s.emit(messages.Event{Kind: messages.ActorStuck, Path: c.path(), Name: c.spec.Kind, Wait: stuckAfter})
			}
		}
	})
}

func (c *cell) stopWatch() {
	if c.watch != nil {
		c.watch.Stop()
		c.watch = nil
	}
}

func (ch *child) stopWatch() {
	if ch.watch != nil {
		ch.watch.Stop()
		ch.watch = nil
	}
}
