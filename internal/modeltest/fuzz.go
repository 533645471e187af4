package modeltest

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// sameAnswer answers every request with one body.
type sameAnswer []byte

func (b sameAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(b)), Request: r}, nil
}

// FuzzStream: whatever a server sends, a call ends with a last chunk or with one
// error that has a class, and nothing follows either. newModel makes a client
// that speaks through hc.
func FuzzStream(f *testing.F, seeds []string, newModel func(hc *http.Client) (provider.Model, error)) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := newModel(&http.Client{Transport: sameAnswer(body)})
		if err != nil {
			t.Fatal(err)
		}
		ended := false
		for c, err := range m.Stream(t.Context(), Ask("hi")) {
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
