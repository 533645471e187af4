package route_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/messages"
)

// hard is the one feature of the requests in these tests.
func hard(req *provider.Request) []float64 {
	if len(req.Messages) > 0 && req.Messages[0].Content == "hard" {
		return []float64{1}
	}
	return []float64{0}
}

// D5: it learns that the cheap one does for easy requests, and the good one for
// hard ones. Rewards: cheap 0.9 and 0.2, good 0.7 and 0.8.
var rewards = map[string][2]float64{"cheap": {0.9, 0.2}, "good": {0.7, 0.8}}

// taught is a router whose reward is by the table, and a call with it.
func taught(t *testing.T, cfg route.LearnedConfig) (*route.Learned, func(text string) string) {
	t.Helper()
	now := 0
	cfg.Choices = choices(&model{name: "cheap"}, &model{name: "good"})
	cfg.Features = hard
	cfg.Reward = func(o route.Outcome) float64 { return rewards[o.Choice][now] }
	r := must(route.NewLearned(t.Context(), cfg))
	return r, func(text string) string {
		now = int(hard(ask(text))[0])
		return chosen(t, r, ask(text))
	}
}

func TestLearned(t *testing.T) {
	var events sink
	r, call := taught(t, route.LearnedConfig{Observe: events.observe})
	right := 0
	for i := range 200 {
		text, want := "easy", "cheap"
		if i%2 == 1 {
			text, want = "hard", "good"
		}
		if got := call(text); i >= 100 && got == want {
			right++
		}
	}
	if right < 95 {
		t.Errorf("%d of the last 100 calls went where they should", right)
	}
	l := r.Learnt()
	if l[0].Name != "cheap" || l[0].Outcomes+l[1].Outcomes != 200 || l[0].Mean < 0.8 || l[1].Mean < 0.75 {
		t.Errorf("learnt %+v", l)
	}
	if e := events.events()[0]; e.Kind != messages.RouteChosen || e.Name != "learned" || !strings.HasPrefix(e.Text, "cheap: expected reward 1.00 ± ") {
		t.Errorf("event %+v", e)
	}
}

// It finds out when things have changed, if it forgets.
func TestLearnedForgets(t *testing.T) {
	better := "a"
	r := must(route.NewLearned(t.Context(), route.LearnedConfig{
		Choices: choices(&model{name: "a"}, &model{name: "b"}), Features: hard, Forget: 0.05,
		Reward: func(o route.Outcome) float64 {
			if o.Choice == better {
				return 0.9
			}
			return 0.1
		},
	}))
	for _, better = range []string{"a", "b", "a"} {
		right := 0
		for i := range 300 {
			if got := chosen(t, r, ask("easy")); i >= 200 && got == better {
				right++
			}
		}
		if right < 85 {
			t.Errorf("%s is better, and got %d of 100 calls", better, right)
		}
	}
}

// What was learned outlives the process, a choice more and one less.
func TestLearnedIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep")
	r, call := taught(t, route.LearnedConfig{Name: "pick", Store: route.FileStore(dir)})
	for i := range 200 {
		call([]string{"easy", "hard"}[i%2])
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := r.Learnt()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || files[0].Name() != "pick.json" {
		t.Fatalf("files %v, error %v", files, err)
	}
	if info, _ := files[0].Info(); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	again, call := taught(t, route.LearnedConfig{Name: "pick", Store: route.FileStore(dir)})
	if got := again.Learnt(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("learnt %v, want %v", got, want)
	}
	if call("hard") != "good" || call("easy") != "cheap" {
		t.Error("it forgot")
	}
	other := must(route.NewLearned(t.Context(), route.LearnedConfig{
		Name: "pick", Store: route.FileStore(dir), Features: hard, Choices: choices(&model{name: "good"}, &model{name: "new"}),
	}))
	if l := other.Learnt(); l[0].Outcomes != want[1].Outcomes || l[1].Outcomes != 0 {
		t.Errorf("learnt %+v", l)
	}
	if got := chosen(t, other, ask("easy")); got != "new" {
		t.Errorf("chosen %s: a new model has to be tried", got)
	}
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, err := route.FileStore(dir).Load(t.Context(), "pick")
	if err != nil || !strings.Contains(string(data), `"cheap"`) {
		t.Errorf("what was learned of a choice that is gone is gone: %s, %v", data, err)
	}

	// What cannot be read is refused, and left as it is.
	for _, bad := range []string{"{", `{"version":2}`, `{"version":1,"features":9,"arms":{"a":{}}}`, `{"version":1,"features":2,"arms":{"a":{"a":[1]}}}`,
		`{"version":1,"features":2,"arms":{"a":{"a":[-1,0,1],"b":[0,0]}}}`} {
		path := filepath.Join(dir, "pick.json")
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := route.NewLearned(t.Context(), route.LearnedConfig{
			Name: "pick", Store: route.FileStore(dir), Features: hard, Choices: choices(&model{name: "a"}, &model{name: "b"}),
		})
		if left, _ := os.ReadFile(path); !errors.Is(err, messages.Invalid) || string(left) != bad {
			t.Errorf("%s: error %v", bad, err)
		}
	}
}

// store is a Store that can be slow and fail.
type store struct {
	mu    sync.Mutex
	takes time.Duration
	err   error
	saves [][]byte
}

func (s *store) Load(context.Context, string) ([]byte, error) { return nil, s.err }

func (s *store) Save(ctx context.Context, _ string, data []byte) error {
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves = append(s.saves, data)
	return s.err
}

// Saving goes on beside the calls, one at a time; a failure is told.
func TestLearnedSaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events sink
		s := &store{takes: 2 * time.Second}
		r, call := taught(t, route.LearnedConfig{Store: s, Observe: events.observe})
		start := time.Now()
		for range 40 {
			call("easy")
		}
		if !time.Now().Equal(start) {
			t.Error("a call waited for a save")
		}
		if err := r.Close(t.Context()); err != nil || len(s.saves) != 2 { // one under way, one at the end
			t.Errorf("%d saves, error %v", len(s.saves), err)
		}
		s.err = errors.New("the disk is full")
		for range 16 {
			call("easy")
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		es := events.events()
		if e := es[len(es)-1]; e.Kind != messages.RouteUnsaved || e.Error == nil || e.Error.Message != "the disk is full" {
			t.Errorf("event %+v", e)
		}
		if err := r.Close(t.Context()); !errors.Is(err, messages.Unavailable) || !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("error %v", err)
		}
		s.err, s.takes = nil, time.Hour
		for range 16 {
			call("easy")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Close(ctx); !errors.Is(err, messages.Timeout) {
			t.Errorf("error %v", err)
		}
		time.Sleep(time.Minute) // a save is bounded
		synctest.Wait()
	})
	s := &store{err: errors.New("no such place")}
	_, err := route.NewLearned(t.Context(), route.LearnedConfig{Choices: choices(&model{name: "a"}, &model{name: "b"}), Store: s})
	if !errors.Is(err, messages.Unavailable) {
		t.Errorf("error %v", err)
	}
}

func TestLearnedRecord(t *testing.T) {
	a, b := &model{name: "a"}, &model{name: "b"}
	r := must(route.NewLearned(t.Context(), route.LearnedConfig{
		Choices: choices(a, b), Explore: -1, Reward: func(route.Outcome) float64 { return math.NaN() }, // people judge
	}))
	for range 10 {
		if err := errors.Join(r.Record("a", ask("x"), 0.1), r.Record("b", ask("x"), 0.9)); err != nil {
			t.Fatal(err)
		}
	}
	if got := chosen(t, r, ask("x")); got != "b" || r.Learnt()[1].Outcomes != 10 {
		t.Errorf("chosen %s, learnt %+v", got, r.Learnt())
	}
	refused(t, r.Record("c", ask("x"), 1), `choice: "c"`)
	refused(t, r.Record("a", ask("x"), math.NaN()), "reward: NaN")
}

// Failures teach; the caller's own doing does not.
func TestLearnedOutcomes(t *testing.T) {
	a := &model{name: "a", err: failing(messages.Unavailable)}
	r := must(route.NewLearned(t.Context(), route.LearnedConfig{Choices: choices(a, &model{name: "b"})}))
	_, _ = provider.Call(t.Context(), r, ask("x"))
	if l := r.Learnt()[0]; l.Outcomes != 1 || l.Mean != 0 {
		t.Errorf("learnt %+v", l)
	}
	if got := chosen(t, r, ask("x")); got != "b" {
		t.Errorf("chosen %s", got)
	}
	a.err = failing(messages.Invalid)
	r = must(route.NewLearned(t.Context(), route.LearnedConfig{Choices: choices(a, &model{name: "b"})}))
	_, _ = provider.Call(t.Context(), r, ask("x"))
	if l := r.Learnt()[0]; l.Outcomes != 0 {
		t.Errorf("learnt %+v", l)
	}
	for _, tt := range []struct {
		o    route.Outcome
		want float64
	}{
		{route.Outcome{Err: failing(messages.Timeout)}, 0},
		{route.Outcome{}, 1},
		{route.Outcome{Duration: 15 * time.Second}, 0.85},
		{route.Outcome{Duration: time.Hour, Origin: &messages.Origin{Confidence: 0.6}}, 0.3},
		{route.Outcome{Stop: messages.StopLength}, 0.5},
	} {
		if got := route.Reward(tt.o); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%+v: %v, want %v", tt.o, got, tt.want)
		}
	}
}

func TestLearnedChecks(t *testing.T) {
	two := choices(&model{name: "a"}, &model{name: "b"})
	for _, tt := range []struct {
		cfg  route.LearnedConfig
		want string
	}{
		{route.LearnedConfig{Choices: two[:1]}, "choices: 1"},
		{route.LearnedConfig{Choices: two, SaveEvery: -1}, "save_every: -1"},
		{route.LearnedConfig{Choices: two, Explore: math.NaN()}, "explore: NaN"},
		{route.LearnedConfig{Choices: two, Forget: 1}, "forget: 1"},
	} {
		_, err := route.NewLearned(t.Context(), tt.cfg)
		refused(t, err, tt.want)
	}
	n := 0
	r := must(route.NewLearned(t.Context(), route.LearnedConfig{Choices: two, Features: func(*provider.Request) []float64 { n++; return make([]float64, n) }}))
	_ = chosen(t, r, ask("x"))
	if _, err := provider.Call(t.Context(), r, ask("x")); !errors.Is(err, messages.Crashed) || !strings.Contains(err.Error(), "use 1 for every request") {
		t.Errorf("error %v", err)
	}
	if _, err := route.FileStore(t.TempDir()).Load(t.Context(), "../x"); !errors.Is(err, messages.Invalid) {
		t.Errorf("error %v", err)
	}
}

func BenchmarkLearned(b *testing.B) {
	r := must(route.NewLearned(b.Context(), route.LearnedConfig{Choices: choices(&model{name: "a"}, &model{name: "b"}, &model{name: "c"})}))
	req := ask("Explain why the sky is blue.")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := provider.Call(b.Context(), r, req); err != nil {
			b.Fatal(err)
		}
	}
}
