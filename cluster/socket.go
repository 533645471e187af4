package cluster

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
)

const (
	socketName = "covey.sock"
	// maxSocketPath is the longest path that every system takes for a unix
	// socket, in bytes.
	maxSocketPath = 103
	// acceptPause follows a connection that could not be accepted, for want of
	// file descriptors most likely.
	acceptPause = 20 * time.Millisecond
)

// socketServer gives other processes of the same user NATS connections to the
// embedded server, through a unix socket of mode 0600.
type socketServer struct {
	lock *dirLock
	ln   net.Listener
	temp string // a directory to remove at close, "" if the socket is in the data directory
	srv  nats.InProcessConnProvider

	mu     sync.Mutex // guards conns and closed
	conns  map[net.Conn]struct{}
	closed bool
	wg     sync.WaitGroup
}

// serveSocket listens on <dir>/covey.sock; where that path is too long for a
// socket, in a private directory among the temporary files. The owner's note
// names it either way, and the seed file to show there, if any. A socket file
// that a dead owner left is replaced.
func serveSocket(l *dirLock, srv nats.InProcessConnProvider, nkey string) (*socketServer, error) {
	s := &socketServer{lock: l, srv: srv, conns: map[net.Conn]struct{}{}}
	path := filepath.Join(l.dir, socketName)
	if len(path) > maxSocketPath {
		tmp, err := os.MkdirTemp("", "covey-")
		if err != nil {
			return nil, socketError(path, err)
		}
		s.temp, path = tmp, filepath.Join(tmp, socketName)
	}
	if err := s.listen(path); err != nil {
		s.removeTemp()
		return nil, socketError(path, err)
	}
	o := thisProcess()
	o.Socket, o.NKey = path, nkey
	if err := writeOwner(l.dir, o); err != nil {
		s.close()
		return nil, err
	}
	s.wg.Go(s.accept)
	return s, nil
}

func socketError(path string, err error) error {
	return messages.Errorf(messages.Unavailable, "socket "+path, "cannot listen: %w", err)
}

func (s *socketServer) listen(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = ln.Close()
		return err
	}
	s.ln = ln
	return nil
}

func (s *socketServer) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(acceptPause)
			continue
		}
		in, err := s.srv.InProcessConn()
		if err != nil || !s.track(c, in) {
			_ = c.Close()
			if in != nil {
				_ = in.Close()
			}
			continue
		}
		s.wg.Go(func() { s.join(c, in) })
	}
}

// track remembers both ends for close; false if it has already closed.
func (s *socketServer) track(ends ...net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	for _, e := range ends {
		s.conns[e] = struct{}{}
	}
	return true
}

// join copies both ways until either side ends. NATS knows no half-closed
// connection, so the end of one direction is the end of both.
func (s *socketServer) join(a, b net.Conn) {
	done := make(chan struct{})
	end := func() { _ = a.Close(); _ = b.Close() }
	go func() {
		defer close(done)
		_, _ = io.Copy(a, b)
		end()
	}()
	_, _ = io.Copy(b, a)
	end()
	<-done
	s.mu.Lock()
	delete(s.conns, a)
	delete(s.conns, b)
	s.mu.Unlock()
}

// close stops listening, ends every connection, and waits for their goroutines.
func (s *socketServer) close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	_ = s.ln.Close() // removes the socket file
	s.wg.Wait()
	s.removeTemp()
}

func (s *socketServer) removeTemp() {
	if s.temp != "" {
		_ = os.RemoveAll(s.temp)
	}
}

// dial connects to the node that runs on dir, from any process of the same
// user. With no node there it fails at once, class unavailable. The connection
// does not come back by itself when that node ends.
func dial(dir, name string, h connEvents) (*nats.Conn, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, messages.Errorf(messages.Invalid, "data directory", "%q: %w", dir, err)
	}
	d := &socketDialer{dir: dir}
	opts := append(commonOptions(name, h), nats.NoReconnect(), nats.SkipHostLookup(), nats.SetCustomDialer(d))
	if o, err := readOwner(dir); err == nil && o.NKey != "" { // else Dial says why
		key, err := Credentials{NKeyFile: o.NKey}.options()
		if err != nil {
			return nil, err
		}
		opts = append(opts, key...)
	}
	nc, err := nats.Connect("nats://covey.invalid:4222", opts...)
	if d.err != nil {
		err = d.err
	}
	if err != nil {
		return nil, messages.Errorf(messages.Unavailable, "data directory "+dir, "no node answers there: %w; start one, or name its data directory or URL", err)
	}
	return nc, nil
}

// socketDialer dials the socket that the directory's owner has noted, whatever
// address it is given.
type socketDialer struct {
	dir string
	err error // why the last Dial failed; nats.Connect hides it
}

func (d *socketDialer) Dial(string, string) (c net.Conn, err error) {
	defer func() { d.err = err }()
	o, err := readOwner(d.dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, errors.New("it has no owner")
	case err != nil:
		return nil, err
	case o.Socket == "":
		return nil, errors.New("its owner is just starting, or opened no socket")
	}
	return net.Dial("unix", o.Socket)
}
