package chaos

import (
	"io"
	"net"
	"sync"

	"github.com/covey-run/covey/messages"
)

// proxy is a way to a TCP address that can be cut. A cut closes nothing, as a
// network that loses every packet does not: what is on its way arrives once the
// cut is healed, if both ends are still there, and so does the end of a
// connection.
type proxy struct {
	to string
	ln net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex // guards the rest
	open   chan struct{}
	cut    bool
	closed bool
	conns  map[net.Conn]bool
}

// newProxy listens on a loopback port.
func newProxy(to string) (*proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, messages.Errorf(messages.Unavailable, "proxy", "%w", err)
	}
	p := &proxy{to: to, ln: ln, open: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(p.open)
	p.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			p.wg.Go(func() { p.join(c) })
		}
	})
	return p, nil
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

// sever lets nothing through until heal.
func (p *proxy) sever() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cut && !p.closed {
		p.cut, p.open = true, make(chan struct{})
	}
}

func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		p.cut = false
		close(p.open)
	}
}

// pass waits until the way is open.
func (p *proxy) pass() {
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	<-open
}

// close ends every connection.
func (p *proxy) close() {
	p.heal()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	_ = p.ln.Close()
	p.wg.Wait()
}

// keep remembers a connection for close; it closes one that comes too late.
func (p *proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return
	}
	p.conns[c] = true
}

func (p *proxy) forget(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *proxy) join(c net.Conn) {
	p.keep(c)
	defer p.forget(c)
	p.pass()
	s, err := net.Dial("tcp", p.to)
	if err != nil {
		return // nobody there: the caller's connection closes
	}
	p.keep(s)
	defer p.forget(s)
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(s, c) })
	p.copy(c, s)
	wg.Wait()
}

// copy copies until the end of from, or a failure, and then ends both ways: NATS
// knows no half of a connection.
func (p *proxy) copy(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		p.pass()
		if n > 0 {
			if _, werr := to.Write(b[:n]); werr != nil {
				err = io.ErrClosedPipe
			}
		}
		if err != nil {
			_ = to.Close()
			_ = from.Close()
			return
		}
	}
}
