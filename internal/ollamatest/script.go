//go:build unix

package ollamatest

import (
	"strings"
	"testing"

	"github.com/covey-run/covey/internal/tinygguf"
)

// Scripts and [Template] make a model that can take part in a conversation: it
// answers a question, calls get_weather for Paris when tools are offered, uses
// the result, thinks if it is told to, and goes on for ever when the last
// message is "loop". "random" gets random words, which a format turns into
// JSON.
var Scripts = []tinygguf.Script{
	{Start: "<|reply|>", Pieces: []string{"The capital", " of France", " is Paris."}},
	{Start: "<|call|>", Pieces: []string{"<tool_call>\n{\"name\":", " \"get_weather\",", " \"arguments\": {\"city\":", " \"Paris\"}}", "\n</tool_call>"}},
	{Start: "<|after|>", Pieces: []string{"It is sunny", " in Paris."}},
	{Start: "<|think|>", Pieces: []string{"<think>\n", "Let me think", " about it.", "\n</think>\n\n", "The answer", " is forty-two."}},
	{Start: "<|loop|>", Pieces: []string{" tick", " tock"}, Loop: true},
	{Start: "<|stuck|>", Pieces: []string{" stuck"}, Loop: true},
}

// Template is the router: it looks at the conversation and picks the script by
// ending the prompt with its control token.
const Template = `{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}<|im_start|>{{ .Role }}
{{ if and $.Tools $last (ne .Role "tool") }}tools: {{ $.Tools }}
{{ end }}
{{- if and (eq .Role "assistant") .Thinking }}<think>
{{ .Thinking }}
</think>

{{ end }}{{ .Content }}
{{- if .ToolCalls }}<tool_call>
{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
{{ end }}</tool_call>
{{- end }}<|im_end|>
{{ if $last }}<|im_start|>assistant
{{ if eq .Content "loop" }}<|loop|>{{ else if eq .Content "stuck" }}<|stuck|>{{ else if eq .Content "random" }}{{ else if eq .Role "tool" }}<|after|>{{ else if $.Tools }}<|call|>{{ else if and $.IsThinkSet $.Think }}<|think|>{{ else }}<|reply|>{{ end }}{{ end }}
{{- end }}`

// PlainTemplate is [Template] for a model that cannot think: over the server's
// /v1/messages one that can always does, and over its /v1 unless told not to.
var PlainTemplate = func() string {
	t := Template
	for _, thinks := range []string{
		"{{- if and (eq .Role \"assistant\") .Thinking }}<think>\n{{ .Thinking }}\n</think>\n\n{{ end }}",
		"{{ else if and $.IsThinkSet $.Think }}<|think|>",
	} {
		if !strings.Contains(t, thinks) {
			panic("the template changed")
		}
		t = strings.Replace(t, thinks, "", 1)
	}
	return t
}()

// CreateScripted registers the model of [Scripts] and [Template] under name.
func (s *Server) CreateScripted(t testing.TB, name string) {
	t.Helper()
	s.Create(t, name, tinygguf.Config{Seed: 1, Scripts: Scripts}, Template, nil)
}
