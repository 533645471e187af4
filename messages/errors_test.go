package messages_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
)

func TestClassOf(t *testing.T) {
	inner := messages.Errorf(messages.Transient, "x", "reset")
	var none *messages.Error
	for _, tt := range []struct {
		name string
		err  error
		want messages.Class
	}{
		{"nil", nil, ""},
		{"plain", io.EOF, ""},
		{"class", messages.Fenced, messages.Fenced},
		{"error", inner, messages.Transient},
		{"wrapped", fmt.Errorf("a: %w", inner), messages.Transient},
		{"class around error", fmt.Errorf("%w: provider: %w", messages.Unavailable, inner), messages.Unavailable},
		{"error around class", messages.Errorf(messages.Poison, "", "%w", messages.Crashed), messages.Poison},
		{"sentinel around error", fmt.Errorf("%w: %w", io.EOF, inner), messages.Transient},
		{"joined", errors.Join(io.EOF, inner, messages.Fenced), messages.Transient},
		{"canceled", fmt.Errorf("x: %w", context.Canceled), messages.Canceled},
		{"deadline", context.DeadlineExceeded, messages.Timeout},
		{"classed before context", messages.Errorf(messages.Budget, "", "%w", context.DeadlineExceeded), messages.Budget},
		{"nil *Error", none, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := messages.ClassOf(tt.err); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if tt.err == nil {
				return
			}
			e := messages.AsError(tt.err, messages.Crashed, "here")
			want := tt.want
			if want == "" {
				want = messages.Crashed
			}
			if e.Class != want || e.Error() == "" {
				t.Errorf("as error: %+v", e)
			}
		})
	}
	if messages.AsError(nil, messages.Crashed, "") != nil {
		t.Error("nil is an error")
	}
}

func TestErrorfKeepsItsCauses(t *testing.T) {
	one := messages.Errorf(messages.Invalid, "src", "it: %w", io.EOF)
	two := messages.Errorf(messages.Invalid, "src", "%w and %w", io.EOF, io.ErrShortWrite)
	if !errors.Is(one, io.EOF) || !errors.Is(two, io.EOF) || !errors.Is(two, io.ErrShortWrite) || errors.Is(one, io.ErrShortWrite) {
		t.Error("a cause is lost")
	}
	if got := one.Error(); got != "src: it: EOF (invalid)" {
		t.Error(got)
	}
	for _, e := range []*messages.Error{one, two} {
		if !errors.Is(e, messages.Invalid) || errors.Is(e, messages.Crashed) {
			t.Error("does not match its class")
		}
	}
}

func TestErrorWords(t *testing.T) {
	for want, e := range map[string]*messages.Error{
		"a: b (tool)":      {Class: messages.Tool, Source: "a", Message: "b"},
		"b":                {Message: "b"},
		"(tool)":           {Class: messages.Tool},
		"the tool is gone": {Class: messages.Tool, Message: "the tool is gone"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestErrorSurvivesTheWire(t *testing.T) {
	near := messages.AsError(fmt.Errorf("dial: %w", io.ErrUnexpectedEOF), messages.Transient, "ollama")
	near.Until = time.Unix(5, 0).UTC()
	near.Others = []*messages.Error{messages.Errorf(messages.Throttled, "", "slow")}
	b, err := json.Marshal(near)
	if err != nil {
		t.Fatal(err)
	}
	far := new(messages.Error)
	if err := json.Unmarshal(b, far); err != nil {
		t.Fatal(err)
	}
	if far.Error() != near.Error() || !errors.Is(far, messages.Transient) || far.Unwrap() != nil || !far.Until.Equal(near.Until) || far.Others[0].Class != messages.Throttled {
		t.Errorf("%+v", far)
	}
	if err := json.Unmarshal([]byte(`{"class":"novel","message":"x","others":[null]}`), far); err != nil || len(far.Others) != 0 {
		t.Errorf("%+v, %v", far, err)
	}
	if far.Class.Valid() || far.Class.Retryable() || !errors.Is(far, messages.Class("novel")) {
		t.Error("a class of a newer program")
	}
	if err := json.Unmarshal([]byte(`7`), far); err == nil {
		t.Error("7 is an error")
	}
}

func TestClasses(t *testing.T) {
	retryable := 0
	for _, c := range messages.Classes() {
		if !c.Valid() || c.Error() != string(c) {
			t.Errorf("%q", c)
		}
		if c.Retryable() {
			retryable++
		}
	}
	if retryable != 3 || messages.Class("").Valid() {
		t.Errorf("%d retryable", retryable)
	}
}

func FuzzError(f *testing.F) {
	f.Add([]byte(`{"class":"throttled","source":"s","message":"m","others":[{"class":"tool","message":"n"}]}`), "m")
	f.Add([]byte(`{"others":[null,{"others":[null]}]}`), "")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		e := new(messages.Error)
		if json.Unmarshal(data, e) == nil {
			_ = e.Error()
			if messages.ClassOf(e) != e.Class || messages.ClassOf(fmt.Errorf("%s: %w", text, e)) != e.Class {
				t.Fatalf("class %q of %+v", messages.ClassOf(e), e)
			}
			b, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			again := new(messages.Error)
			if err := json.Unmarshal(b, again); err != nil || again.Error() != e.Error() {
				t.Fatalf("%v: %q, %q", err, again, e)
			}
		}
		c := messages.Class(text)
		if w := messages.Errorf(c, "", "%w", e); c != "" && (!errors.Is(w, c) || messages.ClassOf(w) != c || !strings.Contains(w.Error(), text)) {
			t.Fatalf("%q is not %q", w, c)
		}
	})
}
