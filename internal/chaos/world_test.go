package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/actors/tool/command"
)

// ask makes a model call.
func ask(t *testing.T, m *model, body string) (text string, tools int) {
	t.Helper()
	res, err := http.Post(m.url+"/api/chat", "application/json", strings.NewReader(body))
	ok(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	ok(t, err)
	var line struct {
		Message struct {
			Content   string           `json:"content"`
			ToolCalls []map[string]any `json:"tool_calls"`
		} `json:"message"`
		Error string `json:"error"`
	}
	ok(t, json.Unmarshal(b, &line))
	return line.Message.Content + line.Error, len(line.Message.ToolCalls)
}

func TestModel(t *testing.T) {
	m, err := startModel(2 * time.Millisecond)
	ok(t, err)
	defer m.close()
	const (
		first  = `{"messages": [{"role": "system", "content": "You are the clerk."}, {"role": "user", "content": "Handle order r-1."}]`
		tools  = `, "tools": [{"function": {"name": "charge"}}]}`
		second = `{"messages": [{"role": "system", "content": "You are the clerk."}, {"role": "user", "content": "Handle order r-1."},
			{"role": "assistant", "content": "", "tool_calls": []}, {"role": "tool", "content": "charged r-1"}]` + tools
	)
	for range 2 {
		if text, n := ask(t, m, first+tools); text != "" || n != 1 {
			t.Errorf("%q, %d tools", text, n)
		}
	}
	if text, n := ask(t, m, second); text != "clerk has done its part of r-1. charged r-1" || n != 0 {
		t.Errorf("%q, %d tools", text, n)
	}
	if text, _ := ask(t, m, `{"messages": []}`); !strings.Contains(text, "without an order") {
		t.Error(text)
	}
	calls, bad := m.counted()
	if s := calls[call{"r-1", "clerk", 0}]; len(calls) != 2 || s == nil || s.calls != 2 || len(s.talks) != 1 {
		t.Errorf("%+v", calls)
	}
	if len(bad) != 1 {
		t.Errorf("bad: %q", bad)
	}
}

func TestTools(t *testing.T) {
	root := t.TempDir()
	for _, tool := range tools {
		ok(t, os.Mkdir(filepath.Join(root, tool), 0o700))
	}
	dir := filepath.Join(root, "charge")
	const args = `{"order": "r-1"}`
	isDone := func() bool {
		t.Helper()
		is, err := Done(dir, strings.NewReader(args), io.Discard)
		ok(t, err)
		return is
	}
	t.Setenv(command.KeyVariable, "k1")
	t.Setenv(lifeVariable, "node-1.1")
	if isDone() {
		t.Error("charged before the call")
	}
	var out bytes.Buffer
	for range 2 {
		ok(t, Do(context.Background(), dir, time.Millisecond, strings.NewReader(args), &out))
	}
	if !isDone() || !strings.HasPrefix(out.String(), "charge r-1 done\n") {
		t.Errorf("not charged: %q", &out)
	}
	all, err := allEffects(root)
	ok(t, err)
	if len(all) != 2 || all[0].tool != "charge" || all[0].order != "r-1" || all[0].key != "k1" || all[0].life != "node-1.1" || time.Since(all[0].at) > time.Minute {
		t.Errorf("%+v", all)
	}
	t.Setenv(command.KeyVariable, "k2")
	if isDone() {
		t.Error("charged under another key")
	}
	if err := Do(context.Background(), dir, 0, strings.NewReader(`{"order": "../x"}`), io.Discard); err == nil {
		t.Error("an order that is no name was taken")
	}
}
