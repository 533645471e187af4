package provider

import (
	"context"
	"iter"

	"github.com/covey-run/covey/messages"
)

// Answer makes a Model of a function that gives a whole reply, which then
// arrives in one chunk. A reply without a stop reason gets "end", or "tools" if
// it has tool calls.
type Answer func(ctx context.Context, req *Request) (*Reply, error)

// Stream calls f.
func (f Answer) Stream(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(Chunk{}, messages.AsError(err, messages.Canceled, ""))
			return
		}
		r, err := f(ctx, req)
		switch {
		case err != nil:
			yield(Chunk{}, err)
		case r == nil:
			yield(Chunk{}, messages.Errorf(messages.Malformed, "", "there is no reply"))
		default:
			yield(r.chunk(), nil)
		}
	}
}

// chunk is the reply as a stream of one chunk.
func (r *Reply) chunk() Chunk {
	c := Chunk{
		Text: r.Message.Content, Thinking: r.Message.Thinking, ThinkingRaw: r.Message.ThinkingRaw,
		ToolCalls: r.Message.ToolCalls, Attempt: r.Attempts,
		Stop: r.Stop, Usage: r.Usage, Model: r.Model, Origin: r.Origin,
	}
	if c.Stop == "" {
		c.Stop = messages.StopEnd
		if len(c.ToolCalls) > 0 {
			c.Stop = messages.StopTools
		}
	}
	return c
}

// said makes the reply of something that is no model.
func said(text, by string) *Reply {
	return &Reply{
		Message: messages.Message{Role: messages.Assistant, Content: text},
		Stop:    messages.StopEnd, Model: by, Attempts: 1,
	}
}
