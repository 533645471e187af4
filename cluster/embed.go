package cluster

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Durability names what an acknowledged journal record survives.
type Durability string

const (
	// SurviveProcess, the default: a record survives kill -9 of the process. It
	// is written to the file before the append returns and synced every 2
	// minutes, so a power loss may take the newest ones. 40 to 60 µs an append.
	SurviveProcess Durability = "process"
	// SurvivePower: a record also survives a power loss, for every append is
	// synced. 120 to 150 µs on a fast disk.
	SurvivePower Durability = "power"
)

// Check returns an error of class invalid unless d is one of the named values
// or "", which means [SurviveProcess].
func (d Durability) Check() error {
	switch d {
	case "", SurviveProcess, SurvivePower:
		return nil
	}
	return messages.Errorf(messages.Invalid, "", "Durability: %q is none: use %q or %q", string(d), SurviveProcess, SurvivePower)
}

const (
	// readyIn bounds the wait for the embedded server. It takes 1 ms on an empty
	// store and seconds on gigabytes after a crash.
	readyIn = 2 * time.Minute
	// maxPayload is the largest message, headers included, that the embedded
	// server takes: 8 MiB.
	maxPayload = 8 << 20
)

// embedded is a NATS server inside this process. It opens no port unless it has
// peers: the ways in are [embedded.connect] and the data directory's socket.
type embedded struct{ *server.Server }

// embed starts a server whose JetStream store is <dir>/jetstream. The caller
// holds the directory's lock. log gets the server's errors, warnings and notices
// (at debug level); nil drops them. p is nil for a server that listens nowhere.
func embed(dir string, d Durability, log *slog.Logger, p *peers) (*embedded, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	if err := checkStore(dir, p); err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName:             "covey",
		DontListen:             true,
		JetStream:              true,
		StoreDir:               dir,
		SyncAlways:             d == SurvivePower,
		MaxPayload:             maxPayload,
		NoSigs:                 true,
		NoLog:                  true,
		DisableJetStreamBanner: true,
	}
	if p != nil {
		p.apply(o)
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, messages.Errorf(messages.Invalid, "embedded NATS", "store %q: %w", dir, err)
	}
	if log != nil {
		s.SetLoggerV2(serverLog{log}, false, false, false)
	}
	s.Start()
	e := &embedded{s}
	if !s.ReadyForConnections(readyIn) || !s.JetStreamEnabled() {
		e.stop()
		return nil, messages.Errorf(messages.Unavailable, "embedded NATS", "store %q: not ready after %v; the server's log says why", dir, readyIn)
	}
	return e, nil
}

// connect returns an in-process connection: no socket, no port.
func (e *embedded) connect(name string, h connEvents, extra ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect("", append(append(commonOptions(name, h), nats.InProcessServer(e.Server)), extra...)...)
	if err != nil {
		return nil, messages.Errorf(messages.Unavailable, "embedded NATS", "in-process connection: %w", err)
	}
	return nc, nil
}

// stop shuts the server down cleanly and waits until its store is closed.
func (e *embedded) stop() {
	e.Shutdown()
	e.WaitForShutdown()
}

// serverLog hands the server's log lines to slog.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(f string, v ...any) { l.log.Debug("nats: " + fmt.Sprintf(f, v...)) }
func (l serverLog) Warnf(f string, v ...any)   { l.log.Warn("nats: " + fmt.Sprintf(f, v...)) }
func (l serverLog) Errorf(f string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(f, v...)) }
func (l serverLog) Fatalf(f string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(f, v...)) }
func (l serverLog) Debugf(string, ...any)      {}
func (l serverLog) Tracef(string, ...any)      {}
