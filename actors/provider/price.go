package provider

import "github.com/covey-run/covey/messages"

// Cost is what a call with this usage costs, in dollars. Cached tokens are part
// of the input.
func (p Price) Cost(u messages.Usage) float64 {
	cached := p.Input
	if p.Cached != nil {
		cached = *p.Cached
	}
	fresh := max(u.InputTokens-u.CachedTokens, 0)
	return (float64(fresh)*p.Input + float64(u.CachedTokens)*cached + float64(u.OutputTokens)*p.Output) / 1e6
}
