package messages_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/covey-run/covey/messages"
)

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "A-b_9": true, strings.Repeat("x", 64): true,
		"": false, "a b": false, "a.b": false, "a/b": false, "*": false, ">": false, "ä": false, "a\n": false, strings.Repeat("x", 65): false,
	} {
		err := messages.CheckName("member", name)
		if (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
		if err != nil && (messages.ClassOf(err) != messages.Invalid || !strings.HasPrefix(err.Error(), "member: ")) {
			t.Error(err)
		}
	}
}

func TestSubjects(t *testing.T) {
	for _, root := range []string{messages.SubjectRuns, messages.SubjectClaims} {
		s := messages.Subject(root, "r1", "press/historian")
		if s != root+".r1.press.historian" {
			t.Error(s)
		}
		run, writer, err := messages.ParseRunSubject(s)
		if err != nil || run != "r1" || writer != "press/historian" {
			t.Errorf("%q %q %v", run, writer, err)
		}
	}
	for _, s := range []string{
		"", "covey", "covey.runs", "covey.runs.", "covey.runs.r", "covey.runs.r.", "covey.runs..a", "covey.runs.r..a", "covey.runs.r.a.",
		"covey.runs.r.*", "covey.runs.r.a b", "covey.runs.r/x.a", "covey.tasks.t", "xcovey.runs.r.a",
	} {
		if run, writer, err := messages.ParseRunSubject(s); !errors.Is(err, messages.ErrWire) {
			t.Errorf("%q is %q, %q, %v", s, run, writer, err)
		}
	}
}

func FuzzParseRunSubject(f *testing.F) {
	f.Add("covey.runs.r.press.a")
	f.Add("covey.claims.r.plan")
	f.Fuzz(func(t *testing.T, s string) {
		run, writer, err := messages.ParseRunSubject(s)
		if err != nil {
			return
		}
		if messages.Subject(messages.SubjectRuns, run, writer) != s && messages.Subject(messages.SubjectClaims, run, writer) != s {
			t.Fatalf("%q gives %q and %q, which are another", s, run, writer)
		}
	})
}

func TestOwnersReadBack(t *testing.T) {
	for _, n := range []messages.NodeInfo{{Node: "a"}, {Node: "a-1", Epoch: 7}} {
		if node, epoch := messages.SplitOwner(n.Owner()); node != n.Node || epoch != n.Epoch {
			t.Errorf("%q: %q, %d", n.Owner(), node, epoch)
		}
	}
}
