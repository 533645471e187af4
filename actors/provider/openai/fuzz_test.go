package openai_test

import (
	"net/http"
	"testing"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/openai"
	"github.com/covey-run/covey/internal/modeltest"
)

func FuzzStream(f *testing.F) {
	modeltest.FuzzStream(f, seeds, func(hc *http.Client) (provider.Model, error) {
		return openai.New(openai.Config{BaseURL: "http://127.0.0.1:1", Model: "m", HTTP: hc})
	})
}

var seeds = []string{
	"", "data: [DONE]\n\n", "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n",
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"tool_calls\"}]}\n\n",
	"data: {\"error\":{\"message\":\"x\"}}\n\n", "data: []\n\n", "data: null\n\n", ": comment\n\n", "event: x\n\n",
}
