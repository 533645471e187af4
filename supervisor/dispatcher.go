package supervisor

import (
	"runtime"
	"sync/atomic"
)

// throughput is how many messages an actor handles before it lets another have
// its worker.
const throughput = 300

// maxParked bounds the goroutines that wait for work; any number may work.
const maxParked = 64

// dispatcher runs mailboxes on goroutines that park between wakes. protoactor's
// own starts a goroutine at each wake, whose stack must grow again: 7 times the
// cost of a message.
type dispatcher struct {
	work   chan *mailbox // nil sends a worker home
	parked atomic.Int32
	closed atomic.Bool
}

func newDispatcher() *dispatcher { return &dispatcher{work: make(chan *mailbox)} }

// schedule processes m on a parked goroutine if there is one, else on a new one.
func (d *dispatcher) schedule(m *mailbox) {
	select {
	case d.work <- m:
	default:
		go d.worker(m)
	}
}

func (d *dispatcher) worker(m *mailbox) {
	for m != nil {
		m.process()
		m = nil // a parked worker keeps no actor alive
		if d.parked.Add(1) <= maxParked && !d.closed.Load() {
			m = <-d.work
		}
		d.parked.Add(-1)
	}
}

// close sends the parked workers home, and those that would park.
func (d *dispatcher) close() {
	d.closed.Store(true)
	for d.parked.Load() > 0 {
		select {
		case d.work <- nil:
		default:
			runtime.Gosched()
		}
	}
}
