package cluster

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/covey-run/covey/messages"
)

// refusals are those who wait for an answer, by their connection. NATS tells a
// connection, and not a request, that a subject is not permitted: without them
// the requester would only see that time is up.
var refusals = struct {
	sync.Mutex
	waits map[*nats.Conn]map[*waiting]struct{}
}{waits: map[*nats.Conn]map[*waiting]struct{}{}}

type waiting struct {
	subject string
	refuse  context.CancelCauseFunc
}

// refusal is the cause of such an end.
type refusal struct{ error }

// guarded calls do, whose requests go to subject, or if that ends with ">", to
// those below it. It fails at once, class unauthorized, when the server does not
// permit the subject.
func guarded(ctx context.Context, nc *nats.Conn, subject string, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &waiting{subject, cancel}
	refusals.Lock()
	if refusals.waits[nc] == nil {
		refusals.waits[nc] = map[*waiting]struct{}{}
	}
	refusals.waits[nc][w] = struct{}{}
	refusals.Unlock()
	defer func() {
		refusals.Lock()
		defer refusals.Unlock()
		if delete(refusals.waits[nc], w); len(refusals.waits[nc]) == 0 {
			delete(refusals.waits, nc)
		}
	}()
	err := do(ctx)
	if r := (refusal{}); err != nil && errors.As(context.Cause(ctx), &r) {
		return r.error
	}
	return err
}

var permission = regexp.MustCompile(`(?i)permissions violation for (publish|subscription) to "([^"]+)"`)

// refused tells who waits on the connection, if err is a refusal.
func refused(nc *nats.Conn, err error) {
	m := permission.FindStringSubmatch(err.Error())
	if m == nil || !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	refusals.Lock()
	defer refusals.Unlock()
	for w := range refusals.waits[nc] {
		root, below := strings.CutSuffix(w.subject, ">")
		if m[2] == w.subject || below && strings.HasPrefix(m[2], root) {
			w.refuse(refusal{messages.Errorf(messages.Unauthorized, m[2], "the NATS server does not permit this subject to these credentials (%s)", strings.ToLower(m[1]))})
		}
	}
}
