package anthropic

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/param"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// request puts a request into the API's words. What the API has no word for is
// left out: a seed, and the size of the context.
func (m *Model) request(req *provider.Request) (*anthropic.MessageNewParams, []option.RequestOption, error) {
	invalid := func(format string, args ...any) (*anthropic.MessageNewParams, []option.RequestOption, error) {
		return nil, nil, messages.Errorf(messages.Invalid, m.source, "request: "+format, args...)
	}
	more := []option.RequestOption{option.WithJSONSet("stream", true)}
	o := req.Options
	p := &anthropic.MessageNewParams{
		Model: anthropic.Model(m.cfg.Model), MaxTokens: int64(m.cfg.MaxTokens), StopSequences: slices.Clone(o.Stop),
	}
	if o.MaxTokens != 0 {
		p.MaxTokens = int64(o.MaxTokens)
	}
	if o.Temperature != nil {
		p.Temperature = param.NewOpt(*o.Temperature)
	}
	if o.TopP != nil {
		p.TopP = param.NewOpt(*o.TopP)
	}
	if o.Think != nil && *o.Think {
		// Not the SDK's field: it writes a warning to stderr for some models.
		thinking := map[string]any{"type": "adaptive", "display": "summarized"}
		if budget := m.cfg.ThinkingTokens; budget > 0 {
			thinking = map[string]any{"type": "enabled", "budget_tokens": budget}
			p.MaxTokens += int64(budget)
		}
		more = append(more, option.WithJSONSet("thinking", thinking))
	}
	if req.Format != nil {
		var schema map[string]any
		if err := json.Unmarshal(req.Format, &schema); err != nil {
			return invalid("format: it is not a JSON schema: %w", err)
		}
		// The API refuses bounds and open objects: the SDK turns them into words.
		schema, ok := anthropic.BetaJSONSchemaOutputFormat(schema).Schema.(map[string]any)
		if !ok || schema == nil {
			return invalid("format: it is not a JSON schema that the API takes")
		}
		p.OutputConfig.Format = anthropic.JSONOutputFormatParam{Schema: schema}
	}
	for _, t := range req.Tools {
		schema := t.Parameters
		if len(schema) == 0 {
			schema = json.RawMessage(`{"type":"object","properties":{}}`)
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(schema, &object); err != nil {
			return invalid("the parameters of tool %s are not a JSON schema: %w", t.Name, err)
		}
		tool := anthropic.ToolParam{Name: t.Name, InputSchema: param.Override[anthropic.ToolInputSchemaParam](schema)}
		if t.Description != "" {
			tool.Description = param.NewOpt(t.Description)
		}
		p.Tools = append(p.Tools, anthropic.ToolUnionParam{OfTool: &tool})
	}
	for i, msg := range req.Messages {
		if msg.Role == messages.System {
			if len(msg.Images) > 0 {
				return invalid("message %d: images in a message of role system are not allowed: use role user", i)
			}
			if msg.Content != "" {
				p.System = append(p.System, anthropic.TextBlockParam{Text: msg.Content})
			}
			continue
		}
		role, blocks, err := m.blocks(msg)
		if err != nil {
			return invalid("message %d: %w", i, err)
		}
		if len(blocks) == 0 {
			continue // the API refuses an empty text
		}
		// The results of all tools of one reply belong into one message.
		if n := len(p.Messages); n > 0 && p.Messages[n-1].Role == role {
			p.Messages[n-1].Content = append(p.Messages[n-1].Content, blocks...)
			continue
		}
		p.Messages = append(p.Messages, anthropic.MessageParam{Role: role, Content: blocks})
	}
	if len(p.Messages) == 0 {
		return invalid("messages: none with a text is not allowed: use at least one of role user")
	}
	return p, more, nil
}

// blocks writes a message that is no system message.
func (m *Model) blocks(msg messages.Message) (anthropic.MessageParamRole, []anthropic.ContentBlockParamUnion, error) {
	var out []anthropic.ContentBlockParamUnion
	text := func() {
		if msg.Content != "" {
			out = append(out, anthropic.NewTextBlock(msg.Content))
		}
	}
	switch msg.Role {
	case messages.User:
		for _, img := range msg.Images { // the API's advice: images before text
			out = append(out, anthropic.NewImageBlockBase64(img.MIME, base64.StdEncoding.EncodeToString(img.Data)))
		}
		text()
		return anthropic.MessageParamRoleUser, out, nil
	case messages.ToolRole:
		result := anthropic.ToolResultBlockParam{ToolUseID: msg.ToolCallID}
		if msg.Content != "" {
			result.Content = append(result.Content, anthropic.ToolResultBlockParamContentUnion{OfText: &anthropic.TextBlockParam{Text: msg.Content}})
		}
		for _, img := range msg.Images {
			result.Content = append(result.Content, anthropic.ToolResultBlockParamContentUnion{OfImage: anthropic.NewImageBlockBase64(img.MIME, base64.StdEncoding.EncodeToString(img.Data)).OfImage})
		}
		return anthropic.MessageParamRoleUser, append(out, anthropic.ContentBlockParamUnion{OfToolResult: &result}), nil
	case messages.Assistant:
		if len(msg.Images) > 0 {
			return "", nil, fmt.Errorf("images in a message of role assistant are not allowed: use role user")
		}
		out = append(out, signed(msg.ThinkingRaw)...)
		text()
		for _, c := range msg.ToolCalls {
			args := c.Arguments
			if len(args) == 0 {
				args = json.RawMessage("{}")
			}
			var object map[string]json.RawMessage
			if err := json.Unmarshal(args, &object); err != nil {
				return "", nil, fmt.Errorf("the arguments of tool call %s are not a JSON object: %w", c.Name, err)
			}
			out = append(out, anthropic.NewToolUseBlock(c.ID, args, c.Name))
		}
		return anthropic.MessageParamRoleAssistant, out, nil
	}
	return "", nil, fmt.Errorf("role %q is not allowed: use system, user, assistant or tool", msg.Role)
}

// signed returns the reasoning that this API signed; another client's is left
// out.
func signed(raw json.RawMessage) (out []anthropic.ContentBlockParamUnion) {
	var blocks []struct {
		thinkingBlock
		Data string `json:"data"`
	}
	if len(raw) == 0 || json.Unmarshal(raw, &blocks) != nil {
		return nil
	}
	for _, b := range blocks {
		switch b.Type {
		case "thinking":
			out = append(out, anthropic.NewThinkingBlock(b.Signature, b.Thinking))
		case "redacted_thinking":
			out = append(out, anthropic.NewRedactedThinkingBlock(b.Data))
		}
	}
	return out
}
