package route_test

import (
	"context"
	"fmt"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/messages"
)

// Easy questions go to a small model, hard ones to a large one.
func ExampleComplexity() {
	named := func(name string) route.Choice {
		return route.Choice{Name: name, Model: scripted.Of(scripted.Rule{Reply: scripted.Reply{Text: "…"}})}
	}
	router, err := route.NewComplexity(route.ComplexityConfig{Simple: named("small"), Complex: named("large")})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, question := range []string{
		"What is the capital of France?",
		"Compare both designs, then explain why one is better, and plan the next steps.",
	} {
		reply, err := provider.Call(context.Background(), router, &provider.Request{
			Messages: []messages.Message{{Role: messages.User, Content: question}},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(reply.Origin.Name)
	}
	// Output:
	// small
	// large
}
