package route

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math"
	"regexp"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// ComplexityConfig sends easy requests to a small model and hard ones to a large
// one.
type ComplexityConfig struct {
	// Name is the router, in events. "": "complexity".
	Name string
	// Simple gets requests that score below Low, Complex those above High, and
	// Medium those between. Medium may be left out: those then go to Complex.
	Simple, Medium, Complex Choice
	// Low and High are the thresholds, from 0 to 1. Zero: 0.3 and 0.7.
	Low, High float64
	// Score says how hard a request is, from 0 to 1. nil: [Score].
	Score func(*provider.Request) float64
	// Clock dates events. nil: the real one.
	Clock clockwork.Clock
	// Observe hears of each choice ([messages.RouteChosen]). It must not block.
	// nil: nobody.
	Observe func(messages.Event)
}

func (c ComplexityConfig) withDefaults() ComplexityConfig {
	if c.Low == 0 {
		c.Low = min(0.3, cmpOr(c.High, 1))
	}
	if c.High == 0 {
		c.High = max(0.7, c.Low)
	}
	if c.Medium.Model == nil && c.Medium.Name == "" {
		c.Medium = c.Complex
	}
	if c.Score == nil {
		c.Score = Score
	}
	return c
}

func cmpOr(f, otherwise float64) float64 {
	if f == 0 {
		return otherwise
	}
	return f
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c ComplexityConfig) Check() error {
	const router = "complexity router"
	share := func(f float64) bool { return f >= 0 && f <= 1 }
	switch {
	case !share(c.Low):
		return bad(router, "low", c.Low, "0 to 1, 0 for 0.3")
	case !share(c.High):
		return bad(router, "high", c.High, "0 to 1, 0 for 0.7")
	}
	d := c.withDefaults()
	if d.Low > d.High {
		return bad(router, "low", d.Low, fmt.Sprintf("at most high, %v", d.High))
	}
	for _, x := range []struct {
		field string
		Choice
	}{{"simple", d.Simple}, {"medium", d.Medium}, {"complex", d.Complex}} {
		switch {
		case x.Name == "":
			return bad(router, x.field+".name", `""`, "the model's reference")
		case x.Model == nil:
			return bad(router, x.field+".model", "nil", "a model")
		}
	}
	return nil
}

// Complexity is a router by how hard a request is. It holds no state.
type Complexity struct {
	base
	cfg ComplexityConfig
}

// NewComplexity fails only with cfg's Check.
func NewComplexity(cfg ComplexityConfig) (*Complexity, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &Complexity{newBase(cfg.Name, "complexity", []Choice{cfg.Simple, cfg.Medium, cfg.Complex}, cfg.Clock, cfg.Observe), cfg}, nil
}

// Stream makes the call on the model that fits the request.
func (r *Complexity) Stream(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
	return stream(func(yield func(provider.Chunk, error) bool) {
		score := r.cfg.Score(req)
		i, word := 1, "medium"
		switch {
		case score < r.cfg.Low:
			i, word = 0, "simple"
		case score > r.cfg.High || math.IsNaN(score):
			i, word = 2, "complex"
		}
		r.send(ctx, req, i, fmt.Sprintf("%s, complexity %.2f", word, score), nil, yield)
	})
}

// Aspects are what makes a request hard, each from 0 to 1.
type Aspects struct {
	// Length: of the whole request; 1 at 2,000 tokens.
	Length float64
	// Format: of the output. 0 for free text; 0.4 for JSON and 0.1 more for each
	// property that its schema names anywhere.
	Format float64
	// Steps: words in the last message that ask for several steps, for reasons,
	// comparisons or proofs, and numbered items; 1 at 4 of them.
	Steps float64
	// Tools: that are offered; 1 at 5.
	Tools float64
}

var steps = regexp.MustCompile(`(?i)(^|\n)\s*(\d+[.)]|[-*•])\s|\b(then|next|after that|finally|first(ly)?|second(ly)?|third(ly)?|step by step|steps?|` +
	`why|how|compare|contrast|versus|trade-?offs?|analy[sz]e|analysis|prove|derive|design|plan|explain|evaluate|debug|refactor|implement|optimi[sz]e|strategy)\b`)

// maxScanned bounds how much of a message is searched, in bytes.
const maxScanned = 64 << 10

// Look measures a request.
func Look(req *provider.Request) Aspects {
	a := Aspects{
		Length: min(1, float64(inputTokens(&provider.Request{Messages: req.Messages}))/2000),
		Tools:  min(1, float64(len(req.Tools))/5),
	}
	if len(req.Format) > 0 {
		a.Format = min(1, 0.4+0.1*float64(bytes.Count(req.Format, []byte(`"type"`))-1))
	}
	for i := len(req.Messages) - 1; i >= 0; i-- {
		if m := req.Messages[i]; m.Role == messages.User {
			text := m.Content[:min(len(m.Content), maxScanned)]
			a.Steps = min(1, float64(len(steps.FindAllStringIndex(text, 5)))/4)
			break
		}
	}
	return a
}

// Score says how hard a request is, from 0 to 1: its [Aspects] combined so that
// each alone can make it hard and several make it harder. The weights are 0.6
// for length, 0.4 for format, 0.75 for steps and 0.5 for tools, in
// 1 - (1-0.6 length)(1-0.4 format)(1-0.75 steps)(1-0.5 tools).
func Score(req *provider.Request) float64 {
	a := Look(req)
	return 1 - (1-0.6*a.Length)*(1-0.4*a.Format)*(1-0.75*a.Steps)*(1-0.5*a.Tools)
}
