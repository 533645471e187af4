package plan

import (
	"context"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
)

// Pipeline asks the members one after the other, in the team's order. Each sees
// the question and what those before it said; the last one's answer is the
// team's.
type Pipeline struct{}

// Run is part of actors.Plan.
func (Pipeline) Run(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
	var ans messages.Answer
	said := s.Discussion()
	members := s.Members()
	for i, m := range members {
		ask := s.Ask
		if i == len(members)-1 {
			ask = s.Conclude
		}
		var err error
		if ans, err = ask(ctx, m, s.Prompt(), said...); err != nil {
			return ans, err
		}
		said = append(said, messages.Said{From: m, Text: ans.Text})
	}
	return ans, nil
}
