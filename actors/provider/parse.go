package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/covey-run/covey/messages"
)

// Strategy is one way of reading a reply's text.
type Strategy struct {
	// Name is what [messages.Origin.Strategy] says when it worked.
	Name string
	// Find yields what the text may mean, the likeliest first. Each is tried in
	// turn until one satisfies what was asked for.
	Find func(text string) iter.Seq[string]
	// Raw says that what it finds is free text, which no schema judges.
	Raw bool
}

// The strategies, in their usual order. The first three find JSON.
var (
	// StrategyJSON: the whole text is JSON.
	StrategyJSON = Strategy{Name: "json", Find: whole}
	// StrategyFenced: it stands in a code fence.
	StrategyFenced = Strategy{Name: "fenced", Find: fenced}
	// StrategyEmbedded: it stands somewhere in prose.
	StrategyEmbedded = Strategy{Name: "embedded", Find: embedded}
	// StrategyRaw: the text as it is, without the space around it.
	StrategyRaw = Strategy{Name: "raw", Find: whole, Raw: true}
)

const (
	maxText       = 4 << 20 // bytes of one answer
	maxCandidates = 64      // places in one text where JSON may begin
)

func whole(text string) iter.Seq[string] {
	return func(yield func(string) bool) { yield(strings.TrimSpace(text)) }
}

// fenced yields what stands between ``` and ```.
func fenced(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for range maxCandidates {
			_, rest, ok := strings.Cut(text, "```")
			if !ok {
				return
			}
			if i := strings.IndexByte(rest, '\n'); i >= 0 && !strings.ContainsAny(rest[:i], "{[`") {
				rest = rest[i+1:] // the language
			}
			inside, after, closed := strings.Cut(rest, "```")
			if s := strings.TrimSpace(inside); s != "" && !yield(s) {
				return
			}
			if !closed {
				return
			}
			text = after
		}
	}
}

// embedded yields the JSON objects in a text, and then the arrays.
func embedded(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, open := range []byte{'{', '['} {
			for at, n := 0, 0; n < maxCandidates; n++ {
				i := strings.IndexByte(text[at:], open)
				if i < 0 {
					break
				}
				at += i
				dec := json.NewDecoder(strings.NewReader(text[at:]))
				var v json.RawMessage
				if dec.Decode(&v) != nil {
					at++
					continue
				}
				if !yield(string(bytes.TrimSpace(v))) {
					return
				}
				at += int(dec.InputOffset())
			}
		}
	}
}

// Wanted is what a text must be.
type Wanted struct {
	// Format is a JSON schema; nil: none.
	Format json.RawMessage
	// Required are fields that the JSON object must have, and not null.
	Required []string
	// AllowRaw takes free text where no JSON satisfies Format and Required.
	AllowRaw bool
	// Strategies are tried in order. nil: json, fenced and embedded if there is
	// a format or a required field, then raw if AllowRaw; raw alone else.
	Strategies []Strategy
}

// JSON reports whether anything but free text is wanted.
func (w Wanted) JSON() bool { return len(w.Format) > 0 || len(w.Required) > 0 }

// Parse reads a text by the strategies in order, and returns what it means and
// the name of the strategy that worked. Its error is of class malformed; that of
// the first candidate which was JSON, since it came closest, or else the first
// strategy's. Empty text is an error, whatever is wanted.
func Parse(text string, w Wanted) (meaning, strategy string, err error) {
	var schema *jsonschema.Resolved
	if len(w.Format) > 0 {
		if schema, err = schemaOf(w.Format); err != nil {
			return "", "", err
		}
	}
	switch n := len(text); {
	case strings.TrimSpace(text) == "":
		return "", "", messages.Errorf(messages.Malformed, "", "it is empty")
	case n > maxText:
		return "", "", messages.Errorf(messages.Malformed, "", "%d bytes are too many, the limit is %d", n, maxText)
	}
	strategies := w.Strategies
	if strategies == nil {
		strategies = []Strategy{StrategyRaw}
		if w.JSON() {
			strategies = []Strategy{StrategyJSON, StrategyFenced, StrategyEmbedded}
			if w.AllowRaw {
				strategies = append(strategies, StrategyRaw)
			}
		}
	}
	var near bool // err is about something that was JSON
	for _, s := range strategies {
		for found := range s.Find(text) {
			bad := w.judge(schema, s, found)
			if bad == nil {
				return found, s.Name, nil
			}
			if isJSON := !errors.Is(bad, errNotJSON); err == nil || isJSON && !near {
				err, near = bad, isJSON
			}
		}
	}
	if err == nil {
		err = messages.Errorf(messages.Malformed, "", "no strategy found anything in it")
	}
	return "", "", err
}

var errNotJSON = errors.New("it is not JSON")

func (w Wanted) judge(schema *jsonschema.Resolved, s Strategy, found string) error {
	if s.Raw {
		if found == "" {
			return messages.Errorf(messages.Malformed, "", "it is empty")
		}
		return nil
	}
	if !json.Valid([]byte(found)) {
		return messages.Errorf(messages.Malformed, "", "%w", errNotJSON)
	}
	if len(w.Required) > 0 {
		var o map[string]json.RawMessage
		if json.Unmarshal([]byte(found), &o) != nil {
			return messages.Errorf(messages.Malformed, "", "it is not a JSON object")
		}
		for _, f := range w.Required {
			if v, ok := o[f]; !ok || string(v) == "null" {
				return messages.Errorf(messages.Malformed, "", "field %q is missing", f)
			}
		}
	}
	if schema == nil {
		return nil
	}
	return fits(schema, found)
}
