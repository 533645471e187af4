package teamfile

import (
	"maps"
	"slices"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
)

// plans are the kinds of plan, the keys that each takes, and how it is made.
var plans = map[string]struct {
	keys []string
	make func(Plan) actors.Plan
}{
	"pipeline": {nil, func(Plan) actors.Plan { return plan.Pipeline{} }},
	"round_table": {[]string{"rounds", "synthesizer", "prompt"}, func(p Plan) actors.Plan {
		return plan.RoundTable{Rounds: p.Rounds, Synthesizer: p.Synthesizer, Prompt: p.Prompt}
	}},
}

func kinds() []string { return slices.Sorted(maps.Keys(plans)) }
