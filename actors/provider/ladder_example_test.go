package provider_test

import (
	"context"
	"fmt"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/messages"
)

// A model that is down, a smaller one that has no quota left, and a text that
// was written beforehand.
func ExampleLadder() {
	failing := func(c messages.Class) provider.Model {
		return scripted.Of(scripted.Rule{Reply: scripted.Reply{Fail: &scripted.Failure{Class: c}}})
	}
	ladder, err := provider.NewLadder(provider.LadderConfig{Rungs: []provider.Rung{
		provider.RungOf("big", failing(messages.Unavailable)),
		provider.RungOf("small", failing(messages.Quota)),
		provider.RungCanned(provider.Canned{"greeting": "Hello. I can say more later."}),
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = ladder.Close() }()
	reply, err := provider.Call(context.Background(), ladder, &provider.Request{
		Kind:     "greeting",
		Messages: []messages.Message{{Role: messages.User, Content: "Good morning!"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(reply.Message.Content)
	fmt.Println("rung", reply.Origin.Rung, reply.Origin.Name, "fallback:", reply.Origin.Fallback)
	for _, e := range reply.Origin.Before {
		fmt.Println("before:", e.Class)
	}
	// Output:
	// Hello. I can say more later.
	// rung 2 canned fallback: true
	// before: unavailable
	// before: quota
}

// The first answer is prose; shown what is wrong, the model mends it.
func ExampleOutput() {
	model := scripted.Of(
		scripted.Rule{When: scripted.When{Last: "cannot be used"}, Reply: scripted.Reply{Text: `Here: {"city": "Paris"}`}},
		scripted.Rule{Reply: scripted.Reply{Text: "It is Paris, of course."}},
	)
	output, err := provider.NewOutput(provider.OutputConfig{Required: []string{"city"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	reply, err := provider.Call(context.Background(), output.Wrap(model), &provider.Request{
		Messages: []messages.Message{{Role: messages.User, Content: "What is the capital of France, as JSON?"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(reply.Message.Content, "by", reply.Origin.Strategy, "at attempt", reply.Attempts)
	// Output:
	// {"city": "Paris"} by embedded at attempt 2
}
