package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/messages"
)

// sessionBucket keeps each session under its name.
const sessionBucket = "COVEY_SESSIONS"

const (
	sessionStream  = "KV_" + sessionBucket
	sessionSubject = "$KV." + sessionBucket
)

const (
	// maxWaiting is how many tasks may wait in one session.
	maxWaiting = 1000
	// maxSaid bounds what a session remembers, in bytes of JSON: 64 KiB, about
	// 16,000 tokens. The oldest exchanges go first; one that is longer by itself
	// is not remembered.
	maxSaid = 64 << 10
)

// userSaid is who asked, in a session's conversation.
const userSaid = "user"

// session is a conversation: what was said, and the tasks that wait to go on with
// it. The first of those is in the work queue, or on its way there; the others
// come after it has ended.
type session struct {
	Said    []messages.Said `json:"said,omitempty"`
	Waiting []waitingTask   `json:"waiting,omitempty"`
}

type waitingTask struct {
	Task messages.Task `json:"task"`
	// Put is the message id under which it goes into the queue, so that of two
	// who put it there one does. It is new each time that the task joins.
	Put string `json:"put"`
}

func (s session) at(run string) int {
	return slices.IndexFunc(s.Waiting, func(w waitingTask) bool { return w.Task.ID == run })
}

// say adds an exchange to the conversation.
func (s *session) say(exchange ...messages.Said) {
	s.Said = append(s.Said, exchange...)
	for len(s.Said) > 0 {
		if b, err := json.Marshal(s.Said); err == nil && len(b) <= maxSaid {
			return
		}
		s.Said = s.Said[min(len(exchange), len(s.Said)):]
	}
}

// sessions keeps the order of sessions. What a session is changes by
// compare-and-set alone, and whether a run has ended is for the journal to say;
// every step can be repeated, by whoever finds it undone. It is safe for
// concurrent use.
type sessions struct {
	nc      *nats.Conn
	journal *journal
	queue   *queue
	pub     publisher

	mu   sync.Mutex
	made bool // the bucket is there
}

// open makes the bucket if it is not there.
func (s *sessions) open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made {
		return nil
	}
	_, err := openBucket(ctx, s.queue.js, jetstream.KeyValueConfig{
		Bucket: sessionBucket, Description: "Covey: conversations, and the tasks that wait to go on with them",
		Replicas: s.queue.Replicas,
	})
	s.made = err == nil
	return err
}

// put has a task wait in its session, unless it does, or its run has ended; and
// sees that the session goes on. again says that the run was just opened again.
func (s *sessions) put(ctx context.Context, t messages.Task, again bool) error {
	if err := checkTask(t); err != nil {
		return err
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	t.Discussion = nil // it is what was said when its turn has come
	err := s.change(ctx, t.Session, func(now *session) (bool, error) {
		w := waitingTask{Task: t, Put: t.ID + "/" + NewID()}
		if i := now.at(t.ID); i >= 0 {
			moved := now.Waiting[i].Task.Queue != t.Queue
			now.Waiting[i].Task.Queue = t.Queue
			if again {
				now.Waiting[i].Put = w.Put
			}
			return moved || again, nil
		}
		if last, err := s.journal.ended(ctx, t.ID); err != nil || last != nil {
			return false, err
		}
		now.Waiting = append(now.Waiting, w)
		return true, s.fits(t.Session, *now)
	})
	if err != nil {
		return err
	}
	return s.advance(ctx, t.Session)
}

// fits refuses a session that is too long. It leaves room for what its tasks
// will have said.
func (s *sessions) fits(name string, now session) error {
	if n := len(now.Waiting); n > maxWaiting {
		return messages.Errorf(messages.Throttled, "session "+name, "%d tasks wait in it, and no more may: try again when some have ended", n-1)
	}
	b, err := json.Marshal(now)
	if most := int(s.nc.MaxPayload()) - 2*maxSaid; err == nil && len(b) > most {
		return messages.Errorf(messages.Throttled, "session "+name, "with this task it would be %d bytes, of at most %d: try again when some tasks have ended", len(b), most)
	}
	return err
}

// settle takes a task whose run has ended out of its session, remembers what was
// asked and answered, and puts the next task into the queue. ended is false, and
// nothing was done, for a run that has not ended after all.
func (s *sessions) settle(ctx context.Context, t messages.Task) (ended bool, err error) {
	if err := s.open(ctx); err != nil {
		return false, err
	}
	if ended, err = s.close(ctx, t); err != nil || !ended {
		return ended, err
	}
	return true, s.advance(ctx, t.Session)
}

// close is settle without the next task.
func (s *sessions) close(ctx context.Context, t messages.Task) (ended bool, err error) {
	err = s.change(ctx, t.Session, func(now *session) (bool, error) {
		// Asked after the session was read: one who opens the run again changes it.
		last, err := s.journal.ended(ctx, t.ID)
		ended = last != nil
		i := now.at(t.ID)
		if err != nil || !ended || i < 0 {
			return false, err
		}
		now.Waiting = slices.Delete(now.Waiting, i, i+1)
		if done, ok := last.(*messages.Done); ok {
			now.say(messages.Said{From: userSaid, Text: t.Prompt}, messages.Said{From: t.Team, Text: done.Answer.Text})
		}
		return true, nil
	})
	return ended, err
}

// advance puts a session's first task into the queue, unless it is there.
func (s *sessions) advance(ctx context.Context, name string) error {
	for {
		now, _, err := s.read(ctx, name)
		if err != nil || len(now.Waiting) == 0 {
			return err
		}
		head := now.Waiting[0]
		if ended, err := s.close(ctx, head.Task); err != nil {
			return err
		} else if ended {
			continue
		}
		if there, err := s.queue.holds(ctx, head.Task); err != nil || there {
			return err
		}
		head.Task.Discussion = now.Said
		_, err = s.queue.submitAs(ctx, head.Task, head.Put)
		return err
	}
}

// change rewrites a session by compare-and-set. edit is called again with what
// another one has made of it, and returns false for no change.
func (s *sessions) change(ctx context.Context, name string, edit func(*session) (bool, error)) error {
	errOvertaken := errors.New("overtaken") // by another change
	first := time.Now()
	for attempt := 1; ; attempt++ {
		now, seq, err := s.read(ctx, name)
		if err != nil {
			return err
		}
		if changed, err := edit(&now); err != nil || !changed {
			return err
		}
		data, err := json.Marshal(now)
		if err != nil {
			return messages.AsError(err, messages.Invalid, "session "+name)
		}
		_, err = s.pub.publish(ctx, pending{
			msg: &nats.Msg{Subject: sessionSubject + "." + name, Data: data, Header: nats.Header{
				jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(seq, 10)},
			}},
			what:    named("session " + name),
			refused: func(context.Context, int, error) error { return errOvertaken },
		})
		if !errors.Is(err, errOvertaken) {
			return err
		}
		if err := s.pub.retrying.pause(ctx, "session "+name, attempt, first, err); err != nil {
			return err
		}
	}
}

// read returns a session, and its place in the bucket's stream: the zero one, and
// 0, for one that is not there.
func (s *sessions) read(ctx context.Context, name string) (now session, seq uint64, err error) {
	var m stored
	err = s.pub.retrying.retry(ctx, "session "+name, func(ctx context.Context) (err error) {
		m, err = getFromLeader(ctx, s.nc, sessionStream, getRequest{Last: sessionSubject + "." + name})
		return err
	})
	switch {
	case apiCode(err) == codeNoMessage:
		return session{}, 0, nil
	case err != nil:
		return session{}, 0, err
	case len(m.data) > 0: // else it was deleted
		err = json.Unmarshal(m.data, &now)
	}
	if err != nil {
		err = messages.Errorf(messages.Invalid, "session "+name, "%w: %w", messages.ErrWire, err)
	}
	return now, m.seq, err
}

// waiting returns the tasks that wait in all sessions, those in the queue too.
func (s *sessions) waiting(ctx context.Context) ([]messages.Task, error) {
	switch _, err := s.queue.js.Stream(ctx, sessionStream); {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, nil
	case err != nil:
		return nil, classed(err, "sessions")
	}
	var ts []messages.Task
	var last uint64
	err := s.pub.retrying.retryWithin(ctx, listTimeout, "sessions", func(ctx context.Context) error {
		for {
			n, err := getBatch(ctx, s.nc, sessionStream, getRequest{Seq: last + 1, Next: sessionSubject + ".*", Batch: batchRecords, MaxBytes: batchBytes},
				func(m *nats.Msg, seq uint64) error {
					last = seq
					var now session
					if len(m.Data) == 0 { // deleted
						return nil
					}
					if err := json.Unmarshal(m.Data, &now); err != nil {
						return messages.Errorf(messages.Invalid, m.Header.Get(jetstream.SubjectHeader), "%w: %w", messages.ErrWire, err)
					}
					for _, w := range now.Waiting {
						ts = append(ts, w.Task)
					}
					return nil
				})
			if err != nil || n == 0 {
				return err
			}
		}
	})
	return ts, err
}
