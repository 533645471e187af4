package chaos

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/covey-run/covey/messages"
)

// node is one node of the cluster: its process, which is kept running unless it
// is meant to be down, and the ways between it and NATS.
type node struct {
	*process
	number  int
	metrics string // address
	ways    []*proxy

	mu       sync.Mutex // guards the rest
	down     bool       // it is meant to be
	wake     chan struct{}
	troubled time.Time // the end of the last fault that it can have noticed
	accident func(format string, args ...any)
}

// keep starts the node's process, and starts it again whenever it has ended and
// is not meant to be down, until ctx ends. An end by itself that no fault
// explains is an accident.
func (n *node) keep(ctx context.Context) {
	for ctx.Err() == nil {
		n.mu.Lock()
		began, wake := time.Now(), n.wake
		var err error
		if !n.down {
			err = n.start()
		}
		down := n.down
		n.mu.Unlock()
		switch {
		case err != nil:
			n.accident("%v", err)
			return
		case down:
			select {
			case <-wake:
			case <-ctx.Done():
			}
			continue
		}
		select {
		case <-n.end():
		case <-ctx.Done():
			return
		}
		n.mu.Lock()
		meant, excused := n.down, n.troubled.After(began)
		n.mu.Unlock()
		if meant {
			continue
		}
		if !excused {
			n.accident("%s ended by itself, %s after its start: %s", n.name, time.Since(began).Round(time.Millisecond), n.status())
		}
		select { // as an init system would
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// meant says whether the node is to be down. It does not end the process: it
// keeps it from being started after its end.
func (n *node) meant(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down = down; down {
		n.wake = make(chan struct{})
	} else if n.wake != nil {
		close(n.wake)
		n.wake = nil
	}
}

// trouble says that a fault which the node may notice goes on, or has ended just
// now: a start that fails until a little later is its consequence.
func (n *node) trouble() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.troubled = time.Now().Add(10 * time.Second)
}

// goroutines asks the node how many it has.
func (n *node) goroutines(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, messages.Errorf(messages.Unavailable, n.name, "%w", err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if v, found := strings.CutPrefix(lines.Text(), "go_goroutines"); found {
			if i := strings.LastIndexByte(v, ' '); i >= 0 {
				count, err := strconv.ParseFloat(v[i+1:], 64)
				return int(count), err
			}
		}
	}
	return 0, messages.Errorf(messages.Invalid, n.name, "its metrics have no go_goroutines")
}

// alarms are texts that no log of a sound program has.
var alarms = []string{"panic:", "DATA RACE", "fatal error:", "goroutine 1 ["}

// alarming reads a log, and returns its alarming lines.
func alarming(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		for _, a := range alarms {
			if strings.Contains(lines.Text(), a) {
				found = append(found, fmt.Sprintf("%s:%d: %s", path, n, lines.Text()))
			}
		}
	}
	return found, lines.Err()
}
