package anthropic_test

import (
	"net/http"
	"testing"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/anthropic"
	"github.com/covey-run/covey/internal/modeltest"
)

func FuzzStream(f *testing.F) {
	modeltest.FuzzStream(f, seeds, func(hc *http.Client) (provider.Model, error) {
		return anthropic.New(anthropic.Config{BaseURL: "http://127.0.0.1:1", Model: "m", HTTP: hc})
	})
}

var seeds = []string{
	"", "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
	"event: message_start\ndata: " + begin + "\n\nevent: x\ndata: {\"type\":\"content_block_delta\",\"index\":7,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n",
	"event: x\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":[1]}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"}}\n\n",
	"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n", "data: null\n\n", ": comment\n\n",
}
