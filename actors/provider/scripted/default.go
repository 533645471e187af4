package scripted

import (
	"fmt"
	"strings"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// Default returns a model that answers anything without rules, always in the
// same way: from the role in the system prompt and from the question. Every
// answer begins with "(scripted)", so that nobody takes it for a model's. It
// calls no tools, for it would have to make up the arguments; it reports a tool
// result that it is given. A JSON schema gets a value that satisfies it.
func Default() *Model {
	m := Of()
	m.fallback = improvise
	return m
}

func improvise(req *provider.Request) (Reply, error) {
	v := look(req)
	as := "As " + role(v.System)
	if v.System == "" {
		as = "As a model without a role"
	}
	if req.Format != nil {
		text, err := example(req.Format, "(scripted) "+as)
		return Reply{Text: text}, err
	}
	about := clip(subject(v.User), 160)
	switch {
	case v.Tool != "":
		return Reply{Text: fmt.Sprintf("(scripted) %s: the tool %s said: %s", as, v.Tool, clip(oneLine(v.Last), 400))}, nil
	case about == "":
		return Reply{Text: fmt.Sprintf("(scripted) %s: I was asked nothing.", as)}, nil
	}
	others := heard(req.Messages)
	if others > 0 {
		return Reply{Text: fmt.Sprintf("(scripted) %s: on %q I have weighed %s so far, and hold that it has more than one cause; a real model would now say which.",
			as, about, count(others, "contribution"))}, nil
	}
	return Reply{Text: fmt.Sprintf("(scripted) %s: on %q I would look first at who was involved, then at what changed, and last at why it lasted.", as, about)}, nil
}

// role reads who the model is told to be: "You are an expert in X. …" gives
// "an expert in X".
func role(system string) string {
	s := sentence(oneLine(system))
	for _, prefix := range []string{"you are ", "you're ", "act as ", "your role is "} {
		if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
			s = s[len(prefix):]
			break
		}
	}
	return clip(strings.TrimRight(s, ".!:; "), 120)
}

// subject is the question in a prompt: its first line that asks, else its first
// line that is not empty.
func subject(prompt string) string {
	first := ""
	for line := range strings.Lines(prompt) {
		line = strings.TrimSpace(line)
		if strings.HasSuffix(line, "?") {
			return line
		}
		if first == "" {
			first = line
		}
	}
	return first
}

// heard counts what assistants said before, in the conversation.
func heard(ms []messages.Message) int {
	n := 0
	for _, m := range ms {
		if m.Role == messages.Assistant && m.Content != "" {
			n++
		}
		if m.Role == messages.User {
			n += strings.Count(m.Content, "(scripted)")
		}
	}
	return n
}

func count(n int, thing string) string {
	if n == 1 {
		return "one " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func sentence(s string) string {
	if i := strings.Index(s, ". "); i >= 0 {
		return s[:i]
	}
	return s
}
