package anthropic_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/covey-run/covey/actors/provider/anthropic"
	"github.com/covey-run/covey/internal/modeltest"
	"github.com/covey-run/covey/messages"
)

// transport answers every request with one body.
type transport []byte

func (b transport) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(b)), Request: r}, nil
}

// FuzzStream: whatever a server sends, a call ends with a last chunk or with one
// error that has a class, and nothing follows either.
func FuzzStream(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := anthropic.New(anthropic.Config{BaseURL: "http://127.0.0.1:1", Model: "m", HTTP: &http.Client{Transport: transport(body)}})
		if err != nil {
			t.Fatal(err)
		}
		ended := false
		for c, err := range m.Stream(t.Context(), modeltest.Ask("hi")) {
			if ended {
				t.Fatalf("%+v, %v after the end", c, err)
			}
			ended = err != nil || c.Stop != ""
			if err != nil && !messages.ClassOf(err).Valid() {
				t.Errorf("error without a class: %v", err)
			}
		}
		if !ended {
			t.Error("the sequence just stopped")
		}
	})
}

var seeds = []string{
	"", "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
	"event: message_start\ndata: " + begin + "\n\nevent: x\ndata: {\"type\":\"content_block_delta\",\"index\":7,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n",
	"event: x\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":[1]}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"}}\n\n",
	"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n", "data: null\n\n", ": comment\n\n",
}
