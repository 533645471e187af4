package cluster

import (
	"context"

	"github.com/nats-io/nats.go"
)

// store is an embedded server on a data directory that this process owns.
type store struct {
	lock   *dirLock
	server *embedded
	socket *socketServer
	nc     *nats.Conn
}

// openStore takes the directory, starts the server, and lets other processes of
// the same user in through the socket.
func openStore(ctx context.Context, cfg Config) (_ *store, err error) {
	s := &store{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, err
	}
	var p *peers
	var show Credentials
	if cfg.Cluster != nil {
		if p, err = openPeers(cfg); err != nil {
			return nil, err
		}
		show = p.credentials()
	}
	if s.server, err = embed(cfg.Dir, cfg.Durability, cfg.Logger, p); err != nil {
		return nil, err
	}
	key, err := show.options()
	if err != nil {
		return nil, err
	}
	if s.nc, err = s.server.connect(cfg.Name, connEvents{}, key...); err != nil {
		return nil, err
	}
	if p != nil {
		if err = p.ready(ctx, s.server, s.nc); err != nil {
			return nil, err
		}
	}
	s.socket, err = serveSocket(s.lock, s.server, show.NKeyFile)
	return s, err
}

// close gives up what there is, last taken first.
func (s *store) close() {
	if s.nc != nil {
		s.nc.Close()
	}
	if s.socket != nil {
		s.socket.close()
	}
	if s.server != nil {
		s.server.stop()
	}
	if s.lock != nil {
		_ = s.lock.release() // the kernel releases it at the latest with the process
	}
}
