package messages

import (
	"encoding/json"
	"time"
)

// Role is who speaks in a chat message.
type Role string

// The roles that model servers know.
const (
	System    Role = "system"
	User      Role = "user"
	Assistant Role = "assistant"
	ToolRole  Role = "tool"
)

// Message is one message of a conversation with a model.
type Message struct {
	Role Role `json:"role"`
	// Content is the text. Empty in an assistant message that only calls tools.
	Content string `json:"content"`
	// Images belong to the text, in a user message. A client whose server takes
	// none fails with class invalid.
	Images []Image `json:"images,omitempty"`
	// Thinking is the model's reasoning where the server gives it apart.
	Thinking string `json:"thinking,omitempty"`
	// ThinkingRaw is the reasoning as a server wants it back with the tools'
	// results (Anthropic's signed blocks), for the client that made it alone.
	ThinkingRaw json.RawMessage `json:"thinking_raw,omitempty"`
	// ToolCalls are the tools that an assistant message asks for, in order.
	ToolCalls []ToolCall `json:"tool_calls,omitempty"`
	// ToolCallID and ToolName say which call a tool message answers.
	ToolCallID string `json:"tool_call_id,omitempty"`
	ToolName   string `json:"tool_name,omitempty"`
}

// Image is a picture in a message.
type Image struct {
	// MIME is its type: "image/png", "image/jpeg", "image/gif" or "image/webp".
	MIME string `json:"mime"`
	// Data is the file's bytes, base64 in JSON.
	Data []byte `json:"data"`
}

// ToolCall is a model's wish to have a tool called.
type ToolCall struct {
	// ID ties the result to the call. A client whose server gives none makes
	// one that is unique within the conversation.
	ID string `json:"id"`
	// Name is the tool's name.
	Name string `json:"name"`
	// Arguments is a JSON object; it need not match the tool's schema.
	Arguments json.RawMessage `json:"arguments"`
}

// ToolSpec is what a model is told of a tool.
type ToolSpec struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	// Parameters is a JSON schema of type object.
	Parameters json.RawMessage `json:"parameters"`
}

// StopReason says why a model stopped.
type StopReason string

// Why a model stopped.
const (
	// StopEnd: it was done.
	StopEnd StopReason = "end"
	// StopTools: it waits for tool results.
	StopTools StopReason = "tools"
	// StopLength: it ran into a limit of tokens; the text is cut off.
	StopLength StopReason = "length"
	// StopFiltered: the provider withheld the answer.
	StopFiltered StopReason = "filtered"
	// StopOther: the provider gave a reason that has no name here.
	StopOther StopReason = "other"
)

// Usage counts what model calls cost. The zero value is nothing.
type Usage struct {
	// Calls is how many model calls were made (not counting those answered from
	// the journal).
	Calls int `json:"calls,omitempty"`
	// InputTokens and OutputTokens as the provider counted them; CachedTokens is
	// the part of the input that it had cached.
	InputTokens  int `json:"input_tokens,omitempty"`
	OutputTokens int `json:"output_tokens,omitempty"`
	CachedTokens int `json:"cached_tokens,omitempty"`
	// Duration is the time that model calls took, waits and retries included.
	Duration time.Duration `json:"duration_ns,omitempty"`
}

// Add returns the sum of u and v.
func (u Usage) Add(v Usage) Usage {
	u.Calls += v.Calls
	u.InputTokens += v.InputTokens
	u.OutputTokens += v.OutputTokens
	u.CachedTokens += v.CachedTokens
	u.Duration += v.Duration
	return u
}

// Origin says how a reply came about when it was not simply the first choice's.
type Origin struct {
	// Rung is the place in the ladder that gave it, from 0: the first choice.
	Rung int `json:"rung,omitempty"`
	// Name is that rung's: a model's reference, a rule's, "canned", "parked".
	Name string `json:"name,omitempty"`
	// Fallback: a rung below the first gave it.
	Fallback bool `json:"fallback,omitempty"`
	// Before are the failures of the rungs before it, in their order.
	Before []*Error `json:"before,omitempty"`
	// Cached: it was given before, and kept.
	Cached bool `json:"cached,omitempty"`
	// Strategy is how the text was read: "json", "raw" or another strategy's
	// name; "" where nothing was parsed.
	Strategy string `json:"strategy,omitempty"`
	// Confidence is the validators' mean, from 0 to 1; 0 without validators.
	Confidence float64 `json:"confidence,omitempty"`
	// Note is the validators' doubt about a text that was taken all the same.
	Note string `json:"note,omitempty"`
}
