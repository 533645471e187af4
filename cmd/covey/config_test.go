package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/covey-run/covey/messages"
)

// covey runs the command and returns what it printed.
func covey(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := root(&global{})
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// E7: every value in effect, and who said so.
func TestConfig(t *testing.T) {
	t.Setenv("COVEY_OLLAMA_RETRY_ATTEMPTS", "7")
	t.Setenv("COVEY_CALL_SUMMARY_RETRY_MAX", "5s")
	const file = "../../teamfile/testdata/full.yaml"
	out, err := covey(t, "config", file)
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]bool{}
	for l := range strings.Lines(out) {
		lines[strings.Join(strings.Fields(l), " ")] = true
	}
	for _, want := range []string{
		"ollama all retry.attempts 7 environment COVEY_OLLAMA_RETRY_ATTEMPTS",
		"ollama all retry.factor 2 " + file + ":56",
		"ollama all breaker.classes all but the caller's own default",
		"ollama all adaptive off " + file + ":60",
		"ollama summary retry.max 5s environment COVEY_CALL_SUMMARY_RETRY_MAX",
		"ollama clerk retry.attempts 2 call",
		"scripted all queue.concurrency 1 " + file + ":64",
	} {
		if strings.HasPrefix(want, "ollama clerk") { // its model is scripted's
			want = strings.Replace(want, "ollama", "scripted", 1)
		}
		if !lines[want] {
			t.Errorf("no line %q in\n%s", want, out)
		}
	}
	out, err = covey(t, "config", file, "--json", "--provider", "ollama")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Provider, Kind, Member string
		Values                 []struct{ Key, Value, Source string }
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) < 2 || all[0].Provider != "ollama" || len(all[0].Values) < 30 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestConfigRefusesWhatIsBad(t *testing.T) {
	if _, err := covey(t, "config", "--provider", "olama"); err == nil || !strings.Contains(err.Error(), "olama") {
		t.Error(err)
	}
	t.Setenv("COVEY_OLLAMA_RETRY_ATTEMPTS", "-1")
	_, err := covey(t, "config")
	var e *messages.Error
	if !errors.As(err, &e) || e.Class != messages.Invalid || !strings.Contains(err.Error(), "from 1 to 100") {
		t.Error(err)
	}
}

func TestParked(t *testing.T) {
	out, err := covey(t, "parked", "--dir", t.TempDir())
	if err != nil || !strings.Contains(out, "no call waits") {
		t.Errorf("%q, %v", out, err)
	}
	_, err = covey(t, "parked", "answer", "nobody", "x", "--dir", t.TempDir())
	if messages.ClassOf(err) != messages.Invalid || !strings.Contains(err.Error(), "nobody") {
		t.Error(err)
	}
}
