package teamfile

import (
	"encoding/json"

	"github.com/covey-run/covey/actors/provider"
)

// Duration is a time.Duration that is text in a file: 250ms, 10s, 1m30s.
type Duration = provider.Duration

// UnmarshalJSON reads a plan, or its kind alone.
func (p *Plan) UnmarshalJSON(b []byte) error {
	type plain Plan
	return shortOr(b, &p.Kind, (*plain)(p))
}

// MarshalJSON writes a tool with nothing but a name as its name.
func (t Tool) MarshalJSON() ([]byte, error) {
	type plain Tool
	if t.bare() {
		return json.Marshal(t.Name)
	}
	return json.Marshal(plain(t))
}

// UnmarshalJSON reads a tool, or its name alone.
func (t *Tool) UnmarshalJSON(b []byte) error {
	type plain Tool
	return shortOr(b, &t.Name, (*plain)(t))
}

// bare reports whether the tool is a name and nothing else.
func (t Tool) bare() bool {
	return t.Description == "" && t.Command == nil && t.Parameters == nil && t.Effect == "" && t.Verify == nil && t.Timeout == 0
}

// shortOr reads a string into short, anything else into long.
func shortOr(b []byte, short *string, long any) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, short)
	}
	return json.Unmarshal(b, long)
}
