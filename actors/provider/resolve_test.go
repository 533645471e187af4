package provider

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
)

// readSettings makes settings of their JSON.
func readSettings(t testing.TB, text string) Settings {
	t.Helper()
	var s Settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func levelOf(t testing.TB, providers, calls map[string]string) Level {
	t.Helper()
	l := Level{Providers: map[string]Settings{}, Calls: map[string]Settings{}}
	for name, text := range providers {
		l.Providers[name] = readSettings(t, text)
	}
	for kind, text := range calls {
		l.Calls[kind] = readSettings(t, text)
	}
	return l
}

func valueOf(e Effective, key string) (value, source string) {
	for _, v := range e.Values {
		if v.Key == key {
			return v.Value, v.Source
		}
	}
	return "", ""
}

// E7 and B4: code < file < environment < call, a call's type beats its provider
// at one level, and an explicit off beats all.
func TestFourLevels(t *testing.T) {
	type m = map[string]string
	for _, c := range []struct {
		name        string
		code, file  Level
		environ     []string
		kind, call  string
		key         string
		want, where string
	}{
		{name: "nobody says a word", key: "retry.attempts", want: "4", where: "default"},
		{name: "code", code: levelOf(t, m{"ollama": `{"retry":{"attempts":2}}`}, nil), key: "retry.attempts", want: "2", where: "code providers.ollama.retry.attempts"},
		{name: "file beats code", code: levelOf(t, m{"ollama": `{"retry":{"attempts":2}}`}, nil), file: levelOf(t, m{"ollama": `{"retry":{"attempts":3}}`}, nil),
			key: "retry.attempts", want: "3", where: "file providers.ollama.retry.attempts"},
		{name: "environment beats file", file: levelOf(t, m{"ollama": `{"retry":{"attempts":3}}`}, nil), environ: []string{"COVEY_OLLAMA_RETRY_ATTEMPTS=5"},
			key: "retry.attempts", want: "5", where: "environment COVEY_OLLAMA_RETRY_ATTEMPTS"},
		{name: "call beats environment", environ: []string{"COVEY_OLLAMA_RETRY_ATTEMPTS=5"}, call: `{"retry":{"attempts":6}}`,
			key: "retry.attempts", want: "6", where: "call"},
		{name: "another provider's", environ: []string{"COVEY_OPENAI_RETRY_ATTEMPTS=5"}, file: levelOf(t, m{"openai": `{}`}, nil), key: "retry.attempts", want: "4", where: "default"},
		{name: "a type of call beats the provider", file: levelOf(t, m{"ollama": `{"retry":{"attempts":3}}`}, m{"summary": `{"retry":{"attempts":7}}`}),
			kind: "summary", key: "retry.attempts", want: "7", where: "file calls.summary.retry.attempts"},
		{name: "and not another type's calls", file: levelOf(t, m{"ollama": `{"retry":{"attempts":3}}`}, m{"summary": `{"retry":{"attempts":7}}`}),
			kind: "chat", key: "retry.attempts", want: "3", where: "file providers.ollama.retry.attempts"},
		{name: "the environment of a type", file: levelOf(t, nil, m{"first-draft": `{"retry":{"attempts":7}}`}), environ: []string{"COVEY_CALL_FIRST_DRAFT_RETRY_ATTEMPTS=8"},
			kind: "first-draft", key: "retry.attempts", want: "8", where: "environment COVEY_CALL_FIRST_DRAFT_RETRY_ATTEMPTS"},
		{name: "the environment of a type that nobody named", environ: []string{"COVEY_CALL_SUMMARY_CACHE_TTL=5m"},
			kind: "summary", key: "cache.ttl", want: "5m0s", where: "environment COVEY_CALL_SUMMARY_CACHE_TTL"},
		{name: "values of one section come from several levels", file: levelOf(t, m{"ollama": `{"retry":{"attempts":3,"initial":"2s"}}`}, nil), environ: []string{"COVEY_OLLAMA_RETRY_ATTEMPTS=5"},
			key: "retry.initial", want: "2s", where: "file providers.ollama.retry.initial"},
		{name: "an off in code beats all", code: levelOf(t, m{"ollama": `{"retry":"off"}`}, nil), file: levelOf(t, m{"ollama": `{"retry":{"attempts":3}}`}, nil),
			environ: []string{"COVEY_OLLAMA_RETRY=on"}, call: `{"retry":{"attempts":6}}`, key: "retry", want: "off", where: "code providers.ollama.retry"},
		{name: "an off of the environment beats values of the call", environ: []string{"COVEY_OLLAMA_CACHE=off"}, call: `{"cache":true}`,
			key: "cache", want: "off", where: "environment COVEY_OLLAMA_CACHE"},
		{name: "on with defaults beats the file's values", file: levelOf(t, m{"ollama": `{"retry":{"attempts":3}}`}, nil), environ: []string{"COVEY_OLLAMA_RETRY=on"},
			key: "retry.attempts", want: "4", where: "default"},
		{name: "given values beat on with defaults", file: levelOf(t, m{"ollama": `{"retry":{"attempts":3}}`}, nil), environ: []string{"COVEY_OLLAMA_RETRY=on", "COVEY_OLLAMA_RETRY_ATTEMPTS=5"},
			key: "retry.attempts", want: "5", where: "environment COVEY_OLLAMA_RETRY_ATTEMPTS"},
		{name: "a call switches the cache off", file: levelOf(t, m{"ollama": `{"cache":"on"}`}, nil), call: `{"cache":"off"}`, key: "cache", want: "off", where: "call"},
		{name: "off where nobody wants it", key: "cache", want: "off", where: "default"},
		{name: "on by its name alone", call: `{"cache":true}`, key: "cache.size", want: "1000", where: "default"},
		{name: "on by a value", file: levelOf(t, m{"ollama": `{"limits":{"requests_per_minute":60}}`}, nil), key: "limits", want: "on", where: "file providers.ollama.limits.requests_per_minute"},
		{name: "rungs of the environment", environ: []string{"COVEY_OLLAMA_FALLBACK=ollama/small, scripted"}, key: "fallback.rungs", want: "ollama/small, scripted", where: "environment COVEY_OLLAMA_FALLBACK"},
		{name: "no rungs", file: levelOf(t, m{"ollama": `{"fallback":["scripted"]}`}, nil), environ: []string{"COVEY_OLLAMA_FALLBACK=off"}, key: "fallback", want: "off", where: "environment COVEY_OLLAMA_FALLBACK"},
		{name: "a price", file: levelOf(t, m{"ollama": `{"prices":{"big":{"input":1,"output":2.5}}}`}, nil), key: "prices.big", want: "$1 in, $2.5 out", where: "file providers.ollama.prices.big"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := NewResolver(Levels{Code: c.code, File: c.file, Environ: c.environ}, "ollama")
			if err != nil {
				t.Fatal(err)
			}
			var call *Settings
			if c.call != "" {
				call = new(readSettings(t, c.call))
			}
			e, err := r.Resolve("ollama", c.kind, call)
			if err != nil {
				t.Fatal(err)
			}
			if v, s := valueOf(e, c.key); v != c.want || s != c.where {
				t.Errorf("%s is %q by %q, want %q by %q", c.key, v, s, c.want, c.where)
			}
		})
	}
}

// E7 and what must be shown: bad values are refused with field, value and range.
func TestBadSettingsAreRefused(t *testing.T) {
	type m = map[string]string
	for _, c := range []struct {
		name  string
		file  Level
		env   string
		words []string
	}{
		{name: "negative retries", file: levelOf(t, m{"ollama": `{"retry":{"attempts":-1}}`}, nil), words: []string{"providers.ollama", "retry.attempts", "-1", "from 1 to 100"}},
		{name: "zero cap", file: levelOf(t, m{"ollama": `{"retry":{"max":"0s"}}`}, nil), words: []string{"retry.max", "0s", "from 1ns to 24h"}},
		{name: "zero concurrency", file: levelOf(t, m{"ollama": `{"queue":{"concurrency":0}}`}, nil), words: []string{"queue.concurrency", "0", "from 1 to"}},
		{name: "jitter", file: levelOf(t, m{"ollama": `{"retry":{"jitter":1.5}}`}, nil), words: []string{"retry.jitter", "1.5", "from 0 to 1"}},
		{name: "a class that is none", file: levelOf(t, m{"ollama": `{"retry":{"classes":["fatal"]}}`}, nil), words: []string{"retry.classes", "fatal", "transient"}},
		{name: "11 rungs", file: levelOf(t, m{"ollama": `{"fallback":["a","b","c","d","e","f","g","h","i","j"]}`}, nil), words: []string{"rungs", "11", "at most 10"}},
		{name: "canned without texts", file: levelOf(t, m{"ollama": `{"fallback":["canned"]}`}, nil), words: []string{"canned", "at least one text"}},
		{name: "a price below zero", file: levelOf(t, m{"ollama": `{"prices":{"big":{"input":-1}}}`}, nil), words: []string{"prices.big.input", "-1", "from 0"}},
		{name: "a provider's section for a type of call", file: levelOf(t, nil, m{"summary": `{"queue":{"concurrency":2}}`}), words: []string{"calls.summary", "queue", "providers"}},
		{name: "environment, out of range", env: "COVEY_OLLAMA_RETRY_ATTEMPTS=-2", words: []string{"COVEY_OLLAMA_RETRY_ATTEMPTS", "-2", "from 1 to 100"}},
		{name: "environment, no number", env: "COVEY_OLLAMA_RETRY_ATTEMPTS=many", words: []string{"COVEY_OLLAMA_RETRY_ATTEMPTS", `"many"`, "whole number"}},
		{name: "environment, a slip", env: "COVEY_OLLAMA_RETRY_ATEMPTS=2", words: []string{"COVEY_OLLAMA_RETRY_ATEMPTS", "did you mean COVEY_OLLAMA_RETRY_ATTEMPTS"}},
		{name: "environment, a provider's section for a type of call", env: "COVEY_CALL_SUMMARY_BREAKER_FAILURES=2", words: []string{"COVEY_CALL_SUMMARY_BREAKER_FAILURES", "share"}},
		{name: "environment, no key of a type of call", env: "COVEY_CALL_SUMMARY_NOTHING=2", words: []string{"COVEY_CALL_SUMMARY_NOTHING", "RETRY_ATTEMPTS"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var environ []string
			if c.env != "" {
				environ = []string{c.env}
			}
			_, err := NewResolver(Levels{File: c.file, Environ: environ}, "ollama")
			if messages.ClassOf(err) != messages.Invalid {
				t.Fatalf("got %v, want class invalid", err)
			}
			for _, w := range c.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the error does not say %q: %v", w, err)
				}
			}
		})
	}
	r, err := NewResolver(Levels{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Resolve("ollama", "", new(readSettings(t, `{"retry":{"attempts":-1}}`))); messages.ClassOf(err) != messages.Invalid {
		t.Errorf("a bad call: %v", err)
	}
}

// What has nothing to do with settings is left alone.
func TestOtherVariables(t *testing.T) {
	environ := []string{"COVEY_KILLS=100", "COVEY_TEST_CHILD=x", "COVEY_OLLAMA_URL=x", "PATH=/bin", "OLLAMA_HOST=x"}
	if _, err := NewResolver(Levels{Environ: environ}, "ollama"); err != nil {
		t.Error(err)
	}
}

// Every setting can be written in a file, in the environment, and is read back.
func TestSettingsRoundTrip(t *testing.T) {
	for _, f := range settings() {
		var text string
		typ := reflect.TypeFor[Settings]().Field(f.section).Type.Elem().Field(f.field).Type
		switch typ {
		case reflect.TypeFor[*int]():
			text = "7"
		case reflect.TypeFor[*float64]():
			text = "1"
		case reflect.TypeFor[*Duration]():
			text = "7s"
		case reflect.TypeFor[*bool]():
			text = "off"
		case reflect.TypeFor[*Spread]():
			text = "full"
		case reflect.TypeFor[[]messages.Class]():
			text = "transient, quota"
		case reflect.TypeFor[[]string]():
			text = "ollama/a, b"
		default: // a map: a file's alone
			continue
		}
		v, err := f.parse(text)
		if err != nil {
			t.Errorf("%s: %v", f.key, err)
			continue
		}
		if err := f.check(v); err != nil {
			t.Errorf("%s: %v", f.key, err)
		}
		var s, back Settings
		f.set(&s, v)
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if !reflect.DeepEqual(s, back) {
			t.Errorf("%s: %s is not what was written", f.key, b)
		}
		if got := f.show(f.value(&back)); got != text && !(typ == reflect.TypeFor[*bool]() && got == "false") {
			t.Errorf("%s: shown as %q, want %q", f.key, got, text)
		}
	}
	for text, want := range map[string]Settings{
		`{"retry":"off"}`:         {Retry: &RetrySettings{On: new(false)}},
		`{"retry":true}`:          {Retry: &RetrySettings{On: new(true)}},
		`{"fallback":["x"]}`:      {Fallback: &FallbackSettings{Rungs: []string{"x"}}},
		`{"fallback":"off"}`:      {Fallback: &FallbackSettings{On: new(false)}},
		`{"cache":{"ttl":"90s"}}`: {Cache: &CacheSettings{TTL: new(Duration(90 * time.Second))}},
	} {
		if got := readSettings(t, text); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func TestResolverKinds(t *testing.T) {
	r, err := NewResolver(Levels{File: levelOf(t, nil, map[string]string{"b": `{}`}), Environ: []string{"COVEY_CALL_A_RETRY=off"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Kinds(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v", got)
	}
}
