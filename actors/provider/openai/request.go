package openai

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/shared"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// request puts a request into the server's words.
func (m *Model) request(req *provider.Request) (*openai.ChatCompletionNewParams, error) {
	invalid := func(format string, args ...any) error {
		return messages.Errorf(messages.Invalid, m.source, "request: "+format, args...)
	}
	if len(req.Messages) == 0 {
		return nil, invalid("messages: none is not allowed: use at least one")
	}
	o := req.Options
	p := &openai.ChatCompletionNewParams{
		Model:         m.cfg.Model,
		StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: param.NewOpt(true)},
	}
	if o.Temperature != nil {
		p.Temperature = param.NewOpt(*o.Temperature)
	}
	if o.TopP != nil {
		p.TopP = param.NewOpt(*o.TopP)
	}
	if o.Seed != nil {
		p.Seed = param.NewOpt(int64(*o.Seed))
	}
	switch {
	case o.MaxTokens == 0:
	case m.cfg.MaxTokensKey == "max_tokens":
		p.MaxTokens = param.NewOpt(int64(o.MaxTokens))
	default:
		p.MaxCompletionTokens = param.NewOpt(int64(o.MaxTokens))
	}
	if len(o.Stop) > 0 {
		p.Stop.OfStringArray = slices.Clone(o.Stop)
	}
	switch {
	case o.Think == nil:
	case !*o.Think:
		p.ReasoningEffort = "none"
	case m.cfg.Effort != "server":
		p.ReasoningEffort = shared.ReasoningEffort(m.cfg.Effort)
	}
	if req.Format != nil {
		if !json.Valid(req.Format) {
			return nil, invalid("format: it is not JSON: use a JSON schema")
		}
		p.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{
			JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{
				Name: "reply", Schema: req.Format, Strict: param.NewOpt(strict(req.Format)),
			},
		}
	}
	for _, t := range req.Tools {
		tool, err := function(t)
		if err != nil {
			return nil, invalid("the parameters of tool %s are not a JSON schema: %w", t.Name, err)
		}
		p.Tools = append(p.Tools, tool)
	}
	for i, msg := range req.Messages {
		out, err := message(msg)
		if err != nil {
			return nil, invalid("message %d: %w", i, err)
		}
		p.Messages = append(p.Messages, out)
	}
	return p, nil
}

// function writes a tool with its schema as it is: the order of properties
// matters to models.
func function(t messages.ToolSpec) (openai.ChatCompletionToolUnionParam, error) {
	def := struct {
		Name        string          `json:"name"`
		Description string          `json:"description,omitempty"`
		Parameters  json.RawMessage `json:"parameters"`
	}{t.Name, t.Description, t.Parameters}
	if len(def.Parameters) == 0 {
		def.Parameters = json.RawMessage(`{"type":"object","properties":{}}`)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(def.Parameters, &object); err != nil {
		return openai.ChatCompletionToolUnionParam{}, err
	}
	raw, err := json.Marshal(def)
	if err != nil {
		return openai.ChatCompletionToolUnionParam{}, err
	}
	return openai.ChatCompletionFunctionTool(param.Override[shared.FunctionDefinitionParam](json.RawMessage(raw))), nil
}

func message(msg messages.Message) (out openai.ChatCompletionMessageParamUnion, err error) {
	if len(msg.Images) > 0 && msg.Role != messages.User {
		return out, fmt.Errorf("images in a message of role %s are not allowed: use role user", msg.Role)
	}
	switch msg.Role {
	case messages.System:
		return openai.SystemMessage(msg.Content), nil
	case messages.ToolRole:
		return openai.ToolMessage(msg.Content, msg.ToolCallID), nil
	case messages.User:
		if len(msg.Images) == 0 {
			return openai.UserMessage(msg.Content), nil
		}
		var parts []openai.ChatCompletionContentPartUnionParam
		if msg.Content != "" {
			parts = append(parts, openai.TextContentPart(msg.Content))
		}
		for _, img := range msg.Images {
			parts = append(parts, openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{
				URL: "data:" + img.MIME + ";base64," + base64.StdEncoding.EncodeToString(img.Data),
			}))
		}
		return openai.UserMessage(parts), nil
	case messages.Assistant:
		a := openai.ChatCompletionAssistantMessageParam{}
		if msg.Content != "" || len(msg.ToolCalls) == 0 {
			a.Content.OfString = param.NewOpt(msg.Content)
		}
		for _, c := range msg.ToolCalls {
			args := c.Arguments
			if len(args) == 0 {
				args = json.RawMessage("{}")
			}
			var object map[string]json.RawMessage
			if err := json.Unmarshal(args, &object); err != nil {
				return out, fmt.Errorf("the arguments of tool call %s are not a JSON object: %w", c.Name, err)
			}
			a.ToolCalls = append(a.ToolCalls, openai.ChatCompletionMessageToolCallUnionParam{
				OfFunction: &openai.ChatCompletionMessageFunctionToolCallParam{
					ID:       c.ID,
					Function: openai.ChatCompletionMessageFunctionToolCallFunctionParam{Name: c.Name, Arguments: string(args)},
				},
			})
		}
		return openai.ChatCompletionMessageParamUnion{OfAssistant: &a}, nil
	}
	return out, fmt.Errorf("role %q is not allowed: use system, user, assistant or tool", msg.Role)
}

// strict reports whether a schema keeps the rules of OpenAI's strict mode: each
// object closed, and each of its properties required. Without them a server does
// its best.
func strict(schema json.RawMessage) bool {
	var v any
	return json.Unmarshal(schema, &v) == nil && strictNode(v)
}

func strictNode(v any) bool {
	switch v := v.(type) {
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !strictNode(e) })
	case map[string]any:
		if properties, ok := v["properties"].(map[string]any); ok || v["type"] == "object" {
			required, _ := v["required"].([]any)
			if v["additionalProperties"] != false {
				return false
			}
			for name, p := range properties {
				if !slices.Contains(required, any(name)) || !strictNode(p) {
					return false
				}
			}
		}
		for k, e := range v {
			if k != "properties" && k != "enum" && k != "const" && !strictNode(e) {
				return false
			}
		}
	}
	return true
}
