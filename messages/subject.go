package messages

import (
	"fmt"
	"regexp"
	"strings"
)

// The subjects. Everything that Covey says is under "covey.", so that
// `nats sub 'covey.>'` hears all of it.
const (
	// SubjectRuns is the journal: covey.runs.<run>.<writer>.
	SubjectRuns = "covey.runs"
	// SubjectClaims is the journal's claims: covey.claims.<run>.<writer>.
	SubjectClaims = "covey.claims"
	// SubjectTasks is the task queue:
	// covey.tasks.<queue>.<high|normal|low>.<session, or "-">.
	SubjectTasks = "covey.tasks"
	// SubjectBus is the collaboration bus: covey.bus.<run>.<member>.
	SubjectBus = "covey.bus"
	// SubjectMembers is where programs take asks: covey.members.<program>.
	SubjectMembers = "covey.members"
	// SubjectPulse is where a node says that it lives, and as which owner, to
	// whoever asks: covey-pulse.<node>. It is apart, so that whoever listens to
	// "covey.>" is no responder there: that there is none means that the node is
	// not connected.
	SubjectPulse = "covey-pulse"
	// SubjectNodes is where nodes answer requests: covey.nodes.<node>.<verb>.
	SubjectNodes = "covey.nodes"
)

// PlanWriter is the writer name of a run's own plan.
const PlanWriter = "plan"

var name = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// CheckName returns an error of class invalid unless s can be the name of a
// team, a member, a tool or a run: 1 to 64 letters, digits, '-' or '_'. field
// says what is being named.
func CheckName(field, s string) error {
	if name.MatchString(s) {
		return nil
	}
	return Errorf(Invalid, "", "%s: %q is not a name: use 1 to 64 letters, digits, '-' or '_'", field, s)
}

// Subject joins a root and tokens. Writers of nested members are paths with
// slashes ("press/historian"); each part becomes a token.
func Subject(root string, tokens ...string) string {
	return root + "." + strings.ReplaceAll(strings.Join(tokens, "."), "/", ".")
}

// ParseRunSubject splits covey.runs.<run>.<writer> or covey.claims.<run>.<writer>.
func ParseRunSubject(subject string) (run, writer string, err error) {
	for _, root := range []string{SubjectRuns, SubjectClaims} {
		if rest, ok := strings.CutPrefix(subject, root+"."); ok {
			run, writer, ok = strings.Cut(rest, ".")
			for part := range strings.SplitSeq(writer, ".") {
				ok = ok && name.MatchString(part)
			}
			if ok && name.MatchString(run) {
				return run, strings.ReplaceAll(writer, ".", "/"), nil
			}
		}
	}
	return "", "", fmt.Errorf("%w: %q is not a journal subject", ErrWire, subject)
}
