package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// parkedStream keeps calls that wait for a person, at covey.parked.calls.<id>,
// and what came of them, at covey.parked.answers.<id>.
const (
	parkedStream  = "COVEY_PARKED"
	parkedCalls   = "covey.parked.calls"
	parkedAnswers = "covey.parked.answers"
)

// lookAgain is how often who waits for an answer looks whether it missed it.
const lookAgain = 10 * time.Second

// Parked is a model call that waits for a person, or has been answered.
type Parked struct {
	ID    string              `json:"id"`
	Since time.Time           `json:"since"`
	Call  provider.ParkedCall `json:"call"`
	// Answer is nil while it waits.
	Answer *ParkedAnswer `json:"answer,omitempty"`
}

// ParkedAnswer is what came of a parked call.
type ParkedAnswer struct {
	// By is "person" or, after a replay, the model.
	By    string         `json:"by"`
	Time  time.Time      `json:"time"`
	Reply provider.Reply `json:"reply"`
}

// parking is the parking place, opened when it is first needed.
type parking struct {
	nc       *nats.Conn
	replicas int
	// parked hears of each call that begins to wait. It must not block. nil:
	// nobody.
	parked func(id string, call provider.ParkedCall)

	mu     sync.Mutex
	js     jetstream.JetStream
	stream jetstream.Stream
}

func (p *parking) open(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stream != nil {
		return nil
	}
	js, err := jetStream(p.nc)
	if err != nil {
		return err
	}
	s, err := openStream(ctx, js, jetstream.StreamConfig{
		Name: parkedStream, Description: "Covey: model calls that wait for a person, and their answers",
		Subjects: []string{parkedCalls + ".*", parkedAnswers + ".*"},
		Storage:  jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
		Duplicates: dedupWindow, Replicas: p.replicas, AllowDirect: true,
	}, nil)
	if err == nil {
		p.js, p.stream = js, s
	}
	return err
}

// parkedID is the same for the same call: by its key, where it has one.
func parkedID(req *provider.Request) string {
	if req.Key == "" {
		return strings.ToLower(NewID())
	}
	sum := sha256.Sum256([]byte(req.Key))
	return hex.EncodeToString(sum[:6])
}

// Park is part of [provider.Parker].
func (p *parking) Park(ctx context.Context, call provider.ParkedCall) (*provider.Reply, error) {
	id := parkedID(&call.Request)
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	in := make(chan *nats.Msg, 1)
	sub, err := p.nc.ChanSubscribe(parkedAnswers+"."+id, in)
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, "parked "+id)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := p.put(ctx, parkedCalls, id, call); err != nil && apiCode(err) != jetstream.JSErrCodeStreamWrongLastSequence {
		return nil, err
	} else if err == nil && p.parked != nil {
		p.parked(id, call)
	}
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		if a, err := p.answer(ctx, id); a != nil {
			r := a.Reply
			return &r, nil
		} else if err != nil && ctx.Err() == nil && !passes(err) {
			return nil, messages.AsError(err, messages.Unavailable, "parked "+id)
		}
		select {
		case <-in:
		case <-tick.C:
		case <-ctx.Done():
			return nil, messages.Errorf(messages.Waiting, "parked "+id, "no machine could answer, and no person has yet: covey parked answer %s TEXT", id)
		}
	}
}

// put stores a message unless there is one on its subject.
func (p *parking) put(ctx context.Context, root, id string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return messages.AsError(err, messages.Invalid, "parked "+id)
	}
	msg := &nats.Msg{Subject: root + "." + id, Data: data, Header: nats.Header{messages.HeaderTime: {now().Format(time.RFC3339Nano)}}}
	if s, ok := v.(provider.ParkedCall); ok && s.Request.Session != "" && !strings.ContainsAny(s.Request.Session, "\r\n") {
		msg.Header.Set(messages.HeaderRun, s.Request.Session)
	}
	what := "parked " + id
	return retrying(nil).retry(ctx, what, func(ctx context.Context) error {
		err := guarded(ctx, p.nc, msg.Subject, func(ctx context.Context) error {
			_, err := p.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(0))
			return err
		})
		if errors.Is(err, nats.ErrMaxPayload) {
			return messages.Errorf(messages.Invalid, what, "message of %d bytes is too large, the server takes up to %d: %w", msg.Size(), p.nc.MaxPayload(), err)
		}
		return err
	})
}

// answer returns what came of a call, nil if nothing has yet.
func (p *parking) answer(ctx context.Context, id string) (*ParkedAnswer, error) {
	var a ParkedAnswer
	ok, err := p.get(ctx, parkedAnswers+"."+id, &a)
	if !ok || err != nil {
		return nil, err
	}
	return &a, nil
}

// get reads the newest message of a subject from the stream's leader.
func (p *parking) get(ctx context.Context, subject string, v any) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	m, err := p.stream.GetLastMsgForSubject(ctx, subject)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	if err := json.Unmarshal(m.Data, v); err != nil {
		return false, messages.Errorf(messages.Invalid, subject, "%w: %w", messages.ErrWire, err)
	}
	if c, ok := v.(*parkedAt); ok {
		c.at = m.Time
	}
	return true, nil
}

// parkedAt is a call and when it was parked.
type parkedAt struct {
	provider.ParkedCall
	at time.Time
}

// one returns a parked call. Class invalid: there is none of that id.
func (p *parking) one(ctx context.Context, id string) (Parked, error) {
	if err := messages.CheckName("parked call", id); err != nil {
		return Parked{}, err
	}
	if err := p.open(ctx); err != nil {
		return Parked{}, err
	}
	var c parkedAt
	ok, err := p.get(ctx, parkedCalls+"."+id, &c)
	if err != nil {
		return Parked{}, messages.AsError(err, messages.Unavailable, "parked "+id)
	}
	if !ok {
		return Parked{}, messages.Errorf(messages.Invalid, "", "parked call %q is not there: `covey parked` lists those that are", id)
	}
	a, err := p.answer(ctx, id)
	if err != nil {
		return Parked{}, messages.AsError(err, messages.Unavailable, "parked "+id)
	}
	return Parked{ID: id, Since: c.at, Call: c.ParkedCall, Answer: a}, nil
}

// Parked lists the calls in the parking place, oldest first, those that were
// answered included.
func (c *Client) Parked(ctx context.Context) ([]Parked, error) {
	p := c.parking()
	if err := p.open(ctx); errors.Is(err, errNotThere) {
		return []Parked{}, nil
	} else if err != nil {
		return nil, err
	}
	info, err := p.stream.Info(ctx, jetstream.WithSubjectFilter(parkedCalls+".*"))
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, "parked")
	}
	all := []Parked{}
	var errs []error
	for subject := range info.State.Subjects {
		one, err := p.one(ctx, strings.TrimPrefix(subject, parkedCalls+"."))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Parked) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all, errors.Join(errs...)
}

// ParkedCall returns one of them. Class invalid: there is none of that id.
func (c *Client) ParkedCall(ctx context.Context, id string) (Parked, error) {
	return c.parking().one(ctx, id)
}

// AnswerParked answers a parked call with a person's text. Whoever waits gets it
// at once; a run that was interrupted gets it when it goes on. Class invalid:
// there is no such call, it is answered already, or the text does not fit the
// format that the call asks for.
func (c *Client) AnswerParked(ctx context.Context, id, text string) error {
	p := c.parking()
	one, err := p.one(ctx, id)
	if err != nil {
		return err
	}
	if strings.TrimSpace(text) == "" {
		return messages.Errorf(messages.Invalid, "", "parked call %s: the answer is empty", id)
	}
	if len(one.Call.Request.Format) > 0 {
		if err := provider.Fits(one.Call.Request.Format, text); err != nil {
			return messages.Errorf(messages.Invalid, "", "parked call %s asks for a format, and this answer does not fit it: %w", id, err)
		}
	}
	return p.settle(ctx, id, ParkedAnswer{By: "person", Reply: provider.Reply{
		Message: messages.Message{Role: messages.Assistant, Content: text}, Stop: messages.StopEnd, Model: "person", Attempts: 1,
	}})
}

// ReplayParked makes a parked call again, on m, and answers it with the reply.
// A failure leaves it parked.
func (c *Client) ReplayParked(ctx context.Context, id string, m provider.Model) (*provider.Reply, error) {
	p := c.parking()
	one, err := p.one(ctx, id)
	if err != nil {
		return nil, err
	}
	if one.Answer != nil {
		return nil, answered(id)
	}
	reply, err := provider.Call(ctx, m, &one.Call.Request)
	if err != nil {
		return nil, err
	}
	return reply, p.settle(ctx, id, ParkedAnswer{By: reply.Model, Reply: *reply})
}

// DropParked removes a parked call and its answer. Who waits for it waits on.
func (c *Client) DropParked(ctx context.Context, id string) error {
	p := c.parking()
	if _, err := p.one(ctx, id); err != nil {
		return err
	}
	for _, root := range []string{parkedCalls, parkedAnswers} {
		err := guarded(ctx, p.nc, "$JS.API.STREAM.PURGE."+parkedStream, func(ctx context.Context) error {
			return p.stream.Purge(ctx, jetstream.WithPurgeSubject(root+"."+id))
		})
		if err != nil {
			return messages.AsError(err, messages.Unavailable, "parked "+id)
		}
	}
	return nil
}

func (c *Client) parking() *parking { return &parking{nc: c.nc} }

func (p *parking) settle(ctx context.Context, id string, a ParkedAnswer) error {
	a.Time = now()
	err := p.put(ctx, parkedAnswers, id, a)
	if apiCode(err) == jetstream.JSErrCodeStreamWrongLastSequence {
		return answered(id)
	}
	return err
}

func answered(id string) error {
	return messages.Errorf(messages.Invalid, "", "parked call %s is answered already", id)
}
