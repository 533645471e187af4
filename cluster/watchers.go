package cluster

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/covey-run/covey/internal/metrics"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// watchers are the node's own subscribers of its events: the log and the
// metrics.
type watchers struct {
	subs    []*supervisor.Subscription
	metrics *metrics.Metrics
	server  *metrics.Server
	wg      sync.WaitGroup
}

// watchRoom is how many events may wait for a watcher; more are dropped, and
// counted.
const watchRoom = 8192

func (n *Node) startWatchers() error {
	w := &n.watch
	if n.cfg.Metrics != "" {
		w.metrics = metrics.New(n.cfg.Name, func() []metrics.Gauges {
			var all []metrics.Gauges
			for _, p := range n.rt.Providers() {
				all = append(all, metrics.Gauges{Model: p.Model, Running: p.Running, Waiting: p.Waiting, Breaker: string(p.Breaker)})
			}
			return all
		})
		var err error
		if w.server, err = w.metrics.Serve(n.cfg.Metrics, n.cfg.MetricsToken); err != nil {
			return err
		}
		n.watchEvents(metrics.Wanted, w.metrics.Observe)
	}
	if n.cfg.Logger.Enabled(context.Background(), slog.LevelInfo) {
		n.watchEvents(logged, func(ev messages.Event) { logEvent(n.cfg.Logger, n.cfg.Name, ev) })
	}
	return nil
}

func (n *Node) watchEvents(want func(messages.Event) bool, do func(messages.Event)) {
	sub := n.sys.Events().Subscribe(watchRoom, want)
	n.watch.subs = append(n.watch.subs, sub)
	n.watch.wg.Go(func() {
		for ev := range sub.C {
			do(ev)
		}
	})
}

// stop ends them, after what has happened was counted.
func (w *watchers) stop() {
	for _, s := range w.subs {
		s.Close()
	}
	w.subs = nil
	w.wg.Wait()
	if w.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.server.Close(ctx) // it is closed then, gracefully or not
		w.server = nil
	}
}

// MetricsAddr is where the node serves its metrics, "" if it does not.
func (n *Node) MetricsAddr() string {
	if n.watch.server == nil {
		return ""
	}
	return n.watch.server.Addr()
}

// logged picks what goes to the log: all that a provider's stack or a ladder
// does about a failure.
func logged(ev messages.Event) bool {
	switch ev.Kind {
	case messages.ProviderRetry, messages.BreakerOpened, messages.BreakerHalfOpen, messages.BreakerClosed,
		messages.LadderRung, messages.LadderFallback, messages.QueueRefused, messages.LimiterRefused,
		messages.OutputRepaired, messages.HistoryHalved, messages.CallParked:
		return true
	}
	return false
}

// logEvent writes an event as a line with the attempt, the wait and the reason,
// and the session that it was for.
func logEvent(log *slog.Logger, node string, ev messages.Event) {
	level := slog.LevelInfo
	switch ev.Kind {
	case messages.BreakerOpened, messages.LadderRung, messages.QueueRefused, messages.CallParked:
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{slog.String("node", node), slog.String("model", ev.Name)}
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	add("session", ev.Session)
	add("call", ev.Call)
	if ev.Attempt > 0 {
		attrs = append(attrs, slog.Int("attempt", ev.Attempt))
	}
	if ev.Wait > 0 {
		attrs = append(attrs, slog.Duration("wait", ev.Wait))
	}
	if !ev.Until.IsZero() {
		attrs = append(attrs, slog.Time("until", ev.Until))
	}
	switch ev.Kind {
	case messages.LadderRung, messages.LadderFallback:
		attrs = append(attrs, slog.Int("rung", ev.Count))
	}
	add("text", ev.Text)
	add("class", string(ev.Class))
	if ev.Error != nil {
		add("reason", ev.Error.Error())
	}
	log.LogAttrs(context.Background(), level, "covey: "+string(ev.Kind), attrs...)
}
