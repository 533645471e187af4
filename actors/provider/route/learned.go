package route

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// LearnedConfig sends each call to the model that did best on calls like it.
type LearnedConfig struct {
	// Name is the router, in events, errors and the store. "": "learned".
	Name string
	// Choices are the models, 2 to 100. One that is added later starts unknown;
	// what was learned of one that is taken out is kept.
	Choices []Choice
	// Store keeps what was learned. nil: it is forgotten with the process.
	Store Store
	// SaveEvery is after how many outcomes it is saved. Zero: 16.
	SaveEvery int
	// Explore is how much an uncertain model is favoured (alpha of LinUCB). Zero:
	// 0.5. Negative: not at all.
	Explore float64
	// Forget is the share of what was learned of a model that each new outcome
	// of it wipes out, so that changes are noticed. Zero: none. Below 1.
	Forget float64
	// Features describe a request as numbers, best between 0 and 1; the same
	// count for every request, at most 64. A constant is added. nil: [Features].
	Features func(*provider.Request) []float64
	// Reward says how good an outcome was, best between 0 and 1; not a number:
	// nothing is learned from it. nil: [Reward].
	Reward func(Outcome) float64
	// Clock measures. nil: the real one.
	Clock clockwork.Clock
	// Observe hears of each choice, and where saving failed
	// ([messages.RouteChosen], RouteUnsaved). It must not block. nil: nobody.
	Observe func(messages.Event)
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c LearnedConfig) Check() error {
	const router = "learned router"
	switch {
	case c.SaveEvery < 0:
		return bad(router, "save_every", c.SaveEvery, "a number of at least 1, or 0 for 16")
	case math.IsNaN(c.Explore) || math.IsInf(c.Explore, 0):
		return bad(router, "explore", c.Explore, "a number; 0 for 0.5, negative for none")
	case !(c.Forget >= 0 && c.Forget < 1):
		return bad(router, "forget", c.Forget, "0 to below 1")
	}
	return checkChoices(router, 2, c.Choices)
}

// Store keeps what a router learned, by its name.
type Store interface {
	// Load returns what was saved last, nil if nothing was.
	Load(ctx context.Context, name string) ([]byte, error)
	// Save replaces it. data is JSON.
	Save(ctx context.Context, name string, data []byte) error
}

// Learned is a contextual bandit (LinUCB, one linear model for each choice): it
// expects of every model a reward by the request's features, adds how unsure it
// is, and takes the highest. Each outcome teaches it. Close saves.
type Learned struct {
	base
	cfg LearnedConfig

	mu       sync.Mutex // guards the rest; not held while saving
	arms     map[string]*arm
	features int // 0: no request was seen yet
	unsaved  int
	saving   chan struct{} // closed when the save under way is over; nil: none is
}

// saveWait bounds one save.
const saveWait = 10 * time.Second

// NewLearned reads what was learned before. It fails with cfg's Check, and with
// class invalid for what cannot be read: mend or remove it.
func NewLearned(ctx context.Context, cfg LearnedConfig) (*Learned, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.SaveEvery == 0 {
		cfg.SaveEvery = 16
	}
	if cfg.Explore == 0 {
		cfg.Explore = 0.5
	}
	cfg.Explore = max(cfg.Explore, 0)
	if cfg.Features == nil {
		cfg.Features = Features
	}
	if cfg.Reward == nil {
		cfg.Reward = Reward
	}
	r := &Learned{base: newBase(cfg.Name, "learned", cfg.Choices, cfg.Clock, cfg.Observe), cfg: cfg, arms: map[string]*arm{}}
	if cfg.Store == nil {
		return r, nil
	}
	data, err := cfg.Store.Load(ctx, r.name)
	if err != nil {
		return nil, messages.Errorf(orClass(err, messages.Unavailable), r.name, "what was learned cannot be read: %w", err)
	}
	if len(data) > 0 {
		if err := r.restore(data); err != nil {
			return nil, messages.Errorf(messages.Invalid, r.name, "what was learned cannot be read: %w", err)
		}
	}
	return r, nil
}

func orClass(err error, otherwise messages.Class) messages.Class {
	if c := messages.ClassOf(err); c != "" {
		return c
	}
	return otherwise
}

// Stream makes the call on the model that promises most, and learns from the
// outcome.
func (r *Learned) Stream(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
	return stream(func(yield func(provider.Chunk, error) bool) {
		x, err := r.look(req)
		if err != nil {
			yield(provider.Chunk{}, err)
			return
		}
		i, why := r.choose(x)
		r.send(ctx, req, i, why, func(o Outcome) {
			if !o.counts() {
				return
			}
			if reward := r.cfg.Reward(o); !math.IsNaN(reward) {
				r.learn(o.Choice, x, reward)
			}
		}, yield)
	})
}

// Record teaches the router the outcome of a call that it did not make, or a
// later judgement of one that it did (give Reward then as a function that
// returns not-a-number, or both are learned from).
func (r *Learned) Record(choice string, req *provider.Request, reward float64) error {
	if math.IsNaN(reward) || math.IsInf(reward, 0) {
		return bad("learned router", "reward", reward, "a number, best from 0 to 1")
	}
	known := false
	for _, c := range r.choices {
		known = known || c.Name == choice
	}
	if !known {
		return bad("learned router", "choice", fmt.Sprintf("%q", choice), "the name of one of its choices")
	}
	x, err := r.look(req)
	if err != nil {
		return err
	}
	r.learn(choice, x, reward)
	return nil
}

// Learnt is what a [Learned] router knows of a model.
type Learnt struct {
	Name string `json:"name"`
	// Outcomes are how many it learned from, Mean their mean reward.
	Outcomes int     `json:"outcomes"`
	Mean     float64 `json:"mean"`
}

// Learnt returns what is known of each choice, in their order.
func (r *Learned) Learnt() []Learnt {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Learnt
	for _, c := range r.choices {
		l := Learnt{Name: c.Name}
		if a := r.arms[c.Name]; a != nil && a.n > 0 {
			l.Outcomes, l.Mean = a.n, a.sum/float64(a.n)
		}
		all = append(all, l)
	}
	return all
}

const maxFeatures = 64

// look describes a request; a constant comes first.
func (r *Learned) look(req *provider.Request) ([]float64, error) {
	x := append([]float64{1}, r.cfg.Features(req)...)
	for _, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, messages.Errorf(messages.Crashed, r.name, "a feature of %v is not allowed: use finite numbers", v)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.features == 0 {
		r.features = len(x)
	}
	if len(x) != r.features || len(x) > maxFeatures+1 {
		return nil, messages.Errorf(messages.Crashed, r.name, "%d features are not allowed: use %d for every request, at most %d", len(x)-1, r.features-1, maxFeatures)
	}
	return x, nil
}

func (r *Learned) choose(x []float64) (int, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	best, most, why := 0, math.Inf(-1), ""
	for i, c := range r.choices {
		mean, width := r.arm(c.Name).expects(x)
		if v := mean + r.cfg.Explore*width; v > most {
			best, most, why = i, v, fmt.Sprintf("expected reward %.2f ± %.2f", mean, width)
		}
	}
	return best, why
}

// arm returns what is known of a choice. The lock is held.
func (r *Learned) arm(name string) *arm {
	a := r.arms[name]
	if a == nil {
		a = newArm(r.features)
		r.arms[name] = a
	}
	return a
}

func (r *Learned) learn(choice string, x []float64, reward float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arm(choice).learn(x, reward, r.cfg.Forget)
	if r.cfg.Store == nil {
		return
	}
	if r.unsaved++; r.unsaved >= r.cfg.SaveEvery && r.saving == nil {
		over := make(chan struct{})
		r.saving = over
		data, err := r.dump()
		r.unsaved = 0
		go func() { // bounded by saveWait; Close waits for it
			ctx, cancel := context.WithTimeout(context.Background(), saveWait)
			defer cancel()
			if err == nil {
				err = r.cfg.Store.Save(ctx, r.name, data)
			}
			r.mu.Lock()
			r.saving = nil
			r.mu.Unlock()
			close(over)
			r.complain(err)
		}()
	}
}

func (r *Learned) complain(err error) {
	if err == nil || r.observe == nil {
		return
	}
	e := messages.AsError(err, messages.Unavailable, r.name)
	r.observe(messages.Event{
		Kind: messages.RouteUnsaved, Time: r.clock.Now(), Name: r.name, Class: e.Class, Error: e,
	})
}

// Close saves what was learned, within ctx.
func (r *Learned) Close(ctx context.Context) error {
	if r.cfg.Store == nil {
		return nil
	}
	for {
		r.mu.Lock()
		saving := r.saving
		if saving == nil {
			break
		}
		r.mu.Unlock()
		select {
		case <-saving:
		case <-ctx.Done():
			return messages.AsError(ctx.Err(), messages.Canceled, r.name)
		}
	}
	data, err := r.dump()
	r.unsaved = 0
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if err := r.cfg.Store.Save(ctx, r.name, data); err != nil {
		return messages.Errorf(orClass(err, messages.Unavailable), r.name, "saving what was learned: %w", err)
	}
	return nil
}

// kept is what a store has.
type kept struct {
	Version  int                `json:"version"`
	Features int                `json:"features"` // the constant included
	Arms     map[string]keptArm `json:"arms"`
}

const keptVersion = 1

// dump and restore hold or need the lock as their callers do.
func (r *Learned) dump() ([]byte, error) {
	k := kept{Version: keptVersion, Features: r.features, Arms: map[string]keptArm{}}
	for name, a := range r.arms {
		k.Arms[name] = a.keep()
	}
	return json.Marshal(k)
}

func (r *Learned) restore(data []byte) error {
	var k kept
	if err := json.Unmarshal(data, &k); err != nil {
		return err
	}
	if k.Version != keptVersion {
		return fmt.Errorf("version %d is not known, %d is", k.Version, keptVersion)
	}
	if k.Features == 0 && len(k.Arms) == 0 {
		return nil
	}
	if want := 1 + len(r.cfg.Features(&provider.Request{})); k.Features != want {
		return fmt.Errorf("it is about %d features, and there are %d", k.Features-1, want-1)
	}
	r.features = k.Features
	for name, ka := range k.Arms {
		a, err := ka.arm(k.Features)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.arms[name] = a
	}
	return nil
}

// Features describe a request by its [Aspects] and by whether it is a short
// question.
func Features(req *provider.Request) []float64 {
	a := Look(req)
	short := 0.0
	if a.Length < 0.05 {
		short = 1
	}
	return []float64{a.Length, a.Format, a.Steps, a.Tools, short}
}

// Reward is 0 for a failure, and for a reply its confidence (1 where nothing
// judged it; half of it if it was cut off or withheld), less up to 0.3 for the
// time it took, all of that at 30 s.
func Reward(o Outcome) float64 {
	if o.Err != nil {
		return 0
	}
	good := 1.0
	if o.Origin != nil && o.Origin.Confidence > 0 {
		good = o.Origin.Confidence
	}
	if o.Stop == messages.StopLength || o.Stop == messages.StopFiltered {
		good /= 2
	}
	return max(0, good-0.3*min(1, o.Duration.Seconds()/30))
}

var errShape = errors.New("it is damaged: its sizes do not fit")
