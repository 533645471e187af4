package ollama

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/ollama/ollama/api"

	"github.com/covey-run/covey/internal/vendorhttp"
)

// line is one line of a stream.
type line struct {
	api.ChatResponse
	Error string `json:"error"`
}

// chat makes one call as the vendor's client does, which clears a buffer of 8 MB
// for each: a thousand callers would take 8 GB. Its client is used where it must
// sign requests. An answer of status 400 or more is no error of chat's: the
// exchange has it.
func (m *Model) chat(ctx context.Context, req *api.ChatRequest, each func(*api.ChatResponse) error) error {
	if m.url == "" {
		return m.client.Chat(ctx, req, func(res api.ChatResponse) error { return each(&res) })
	}
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/x-ndjson")
	r.Header.Set("User-Agent", "covey")
	res, err := m.http.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusBadRequest {
		return nil
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, vendorhttp.MaxLine)
	for lines.Scan() {
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return errors.New(string(text))
		}
		if l.Error != "" {
			return errors.New(l.Error)
		}
		if err := each(&l.ChatResponse); err != nil {
			return err
		}
		if l.Done {
			vendorhttp.Drain(res.Body, cancel)
			return nil
		}
	}
	return lines.Err()
}
