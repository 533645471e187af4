package provider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/covey-run/covey/internal/misfit"
	"github.com/covey-run/covey/messages"
)

const (
	maxShown  = 8 << 10 // bytes of a refused answer that the model sees again
	maxWhy    = 1 << 10 // bytes of what is wrong with it
	maxFormat = 4 << 10 // bytes of a schema in a prompt
)

// RepairPrompt is the request again, with the refused answer and what is wrong
// with it at its end.
func RepairPrompt(req *Request, refused *Reply, why error) *Request {
	next := *req
	next.Messages = slices.Clone(req.Messages)
	if text := refused.Message.Content; text != "" {
		next.Messages = append(next.Messages, messages.Message{Role: messages.Assistant, Content: misfit.Cut(text, maxShown)})
	}
	next.Messages = append(next.Messages, messages.Message{
		Role:    messages.User,
		Content: fmt.Sprintf("That answer cannot be used: %s. Give the whole answer again, mended.", inShort(why)),
	})
	return &next
}

// SimplerPrompt asks for less: the system's words and the conversation from the
// last thing that the user said, with a plain instruction at its end, at
// temperature 0.
func SimplerPrompt(req *Request, why error) *Request {
	return simplerPrompt(req, Wanted{Format: req.Format}, why)
}

func simplerPrompt(req *Request, w Wanted, why error) *Request {
	next := *req
	next.Messages = nil
	from := len(req.Messages)
	for i, m := range req.Messages {
		if m.Role == messages.User {
			from = i
		}
	}
	for i, m := range req.Messages {
		if m.Role == messages.System || i >= from {
			next.Messages = append(next.Messages, m)
		}
	}
	order := "Answer shortly and plainly, with nothing but the answer."
	if w.JSON() {
		order = "Answer with one JSON value and not a word beside it."
		if len(w.Required) > 0 {
			order += " It is an object with the fields " + strings.Join(w.Required, ", ") + "."
		}
		var schema bytes.Buffer
		if json.Compact(&schema, w.Format) == nil && schema.Len() <= maxFormat {
			order += " It must satisfy this JSON schema: " + schema.String()
		}
	}
	order += fmt.Sprintf(" (The last answer could not be used: %s.)", inShort(why))
	next.Messages = append(next.Messages, messages.Message{Role: messages.User, Content: order})
	next.Options.Temperature = new(float64)
	return &next
}

// inShort is what is wrong, in words for a model.
func inShort(why error) string {
	text := why.Error()
	if e := messages.AsError(why, "", ""); e.Message != "" {
		text = e.Message
	}
	return misfit.Cut(text, maxWhy)
}
