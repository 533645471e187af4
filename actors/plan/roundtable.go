package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
)

// RoundTable has the members speak in turn, each hearing all that was said
// before, for some rounds; then one of them puts it together.
type RoundTable struct {
	// Rounds is how often each member speaks. Zero: 2.
	Rounds int
	// Synthesizer is the member that puts it together. Zero: the first.
	Synthesizer string
	// Prompt is what the synthesizer is asked. Zero: to answer the question from
	// the discussion, naming where the members agree and where they do not.
	Prompt string
}

const synthesis = "%s\n\nPut the discussion together into one answer to that question. Say what the speakers agree on, and where they differ."

// CheckTeam says what in the plan does not fit the team.
func (p RoundTable) CheckTeam(t actors.Team) error {
	if p.Rounds < 0 {
		return messages.Errorf(messages.Invalid, "", "team %q: plan: rounds: %d is not allowed: use 0 (for 2) or more", t.Name, p.Rounds)
	}
	var names []string
	for _, m := range t.Members {
		names = append(names, m.MemberName())
	}
	if p.Synthesizer != "" && !slices.Contains(names, p.Synthesizer) {
		return messages.Errorf(messages.Invalid, "", "team %q: plan: synthesizer: %q is not allowed: use a member (%s)", t.Name, p.Synthesizer, strings.Join(names, ", "))
	}
	return nil
}

// Run is part of actors.Plan.
func (p RoundTable) Run(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
	rounds, speaker, prompt := p.Rounds, p.Synthesizer, p.Prompt
	if rounds == 0 {
		rounds = 2
	}
	if speaker == "" {
		speaker = s.Members()[0]
	}
	if prompt == "" {
		prompt = fmt.Sprintf(synthesis, s.Prompt())
	}
	said := s.Discussion()
	for range rounds {
		for _, m := range s.Members() {
			ans, err := s.Ask(ctx, m, s.Prompt(), said...)
			if err != nil {
				return ans, err
			}
			said = append(said, messages.Said{From: m, Text: ans.Text})
		}
	}
	return s.Conclude(ctx, speaker, prompt, said...)
}
