package chaos

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/covey-run/covey/messages"
)

// ServeNATS runs a NATS server with JetStream on 127.0.0.1:port, its store in
// dir, until ctx ends. It says on out when it is ready, and what it has to
// complain of. It pings its clients each second, and drops one that has not
// answered twice.
func ServeNATS(ctx context.Context, port int, dir string, out io.Writer) error {
	s, err := server.NewServer(&server.Options{
		ServerName: "chaos", Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir,
		PingInterval: time.Second, MaxPingsOut: 2, MaxPayload: 8 << 20,
		NoSigs: true, NoLog: true, DisableJetStreamBanner: true,
	})
	if err != nil {
		return messages.Errorf(messages.Invalid, "NATS server", "%w", err)
	}
	s.SetLoggerV2(natsLog{out}, false, false, false)
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(time.Minute) {
		return messages.Errorf(messages.Unavailable, "NATS server", "127.0.0.1:%d, store %q: not ready after a minute", port, dir)
	}
	fmt.Fprintln(out, "ready at", s.ClientURL())
	<-ctx.Done()
	return nil
}

// natsLog prints what matters of a server's log.
type natsLog struct{ out io.Writer }

func (l natsLog) print(level, f string, v []any) {
	fmt.Fprintf(l.out, "%s %s %s\n", time.Now().Format("15:04:05.000"), level, fmt.Sprintf(f, v...))
}

func (l natsLog) Warnf(f string, v ...any)  { l.print("warning:", f, v) }
func (l natsLog) Errorf(f string, v ...any) { l.print("error:", f, v) }
func (l natsLog) Fatalf(f string, v ...any) { l.print("fatal:", f, v) }
func (l natsLog) Noticef(string, ...any)    {}
func (l natsLog) Debugf(string, ...any)     {}
func (l natsLog) Tracef(string, ...any)     {}

// freePort is a loopback port that nobody listens on, below those that the
// system gives to outgoing connections: it stays free while its server is down.
func freePort() (int, error) {
	const first, last, tries = 20000, 30000, 100
	var err error
	for range tries {
		port := first + rand.IntN(last-first)
		var l net.Listener
		if l, err = net.Listen("tcp", loopback(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, messages.Errorf(messages.Unavailable, "free port", "none of %d tries between %d and %d: %w", tries, first, last, err)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
