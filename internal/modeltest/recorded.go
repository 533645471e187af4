package modeltest

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// Recorded is an error's body and what it means.
type Recorded struct {
	Name   string
	Status int // 200: inside a stream
	Class  messages.Class
	Body   string
}

// ReadRecorded reads lines of "name | status | class | body"; those that begin
// with # are left out.
func ReadRecorded(t *testing.T, path string) (all []Recorded) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.SplitN(line, "|", 4)
		if len(f) != 4 {
			t.Fatalf("%s:%d: not four fields", path, n+1)
		}
		status, err := strconv.Atoi(strings.TrimSpace(f[1]))
		class := messages.Class(strings.TrimSpace(f[2]))
		if err != nil || !class.Valid() {
			t.Fatalf("%s:%d: status %q, class %q", path, n+1, f[1], class)
		}
		all = append(all, Recorded{strings.TrimSpace(f[0]), status, class, strings.TrimSpace(f[3])})
	}
	return all
}

// Fails makes a call that must fail and returns its error.
func Fails(t *testing.T, m provider.Model, req *provider.Request) *messages.Error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := provider.Call(ctx, m, req)
	e := messages.AsError(err, "", "")
	if e == nil {
		t.Fatalf("no error but %+v", r)
	}
	return e
}
