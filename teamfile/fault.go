package teamfile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"

	"github.com/covey-run/covey/internal/misfit"
	"github.com/covey-run/covey/messages"
)

// source is where a file's values come from.
type source struct {
	name string
	root *node // nil where there are no lines
}

// fault makes the error for what is at a path: "team.yaml:7: …".
func (s *source) fault(path []any, format string, args ...any) error {
	where := ""
	switch {
	case s == nil:
	case s.root == nil:
		where = s.name
	default:
		where = fmt.Sprintf("%s:%d", s.name, s.root.lineOf(path))
	}
	return messages.Errorf(messages.Invalid, where, format, args...)
}

// refused is [source.fault] for a value: it names the field, the value and what
// is allowed.
func (s *source) refused(path []any, value any, allowed string) error {
	return s.fault(path, "%s: %s is not allowed: use %s", misfit.Where(path), misfit.Show(value), allowed)
}

// misfit words what does not fit the format's schema.
func (s *source) misfit(f misfit.Fault) error {
	where := misfit.Where(f.Path)
	switch f.Kind {
	case misfit.Missing:
		return s.fault(f.Path, "%s is missing: use %s", where, f.Allowed)
	case misfit.Unknown:
		key, in := fmt.Sprint(f.Path[len(f.Path)-1]), ""
		if outer := misfit.Where(f.Path[:len(f.Path)-1]); outer != "" {
			in = " in " + outer
		}
		return s.fault(f.Path, "unknown key %q%s; %s", misfit.Cut(key, 80), in, suggest(key, f.Known))
	}
	if where == "" {
		return s.fault(f.Path, "%s is not allowed: use a mapping with a name", misfit.Show(f.Value))
	}
	return s.refused(f.Path, f.Value, f.Allowed)
}

// syntax puts the file's name before an error of the YAML reader.
func (s *source) syntax(err error) error {
	var e *atLine
	if !errors.As(err, &e) {
		return messages.Errorf(messages.Invalid, s.name, "%w", err)
	}
	return messages.Errorf(messages.Invalid, fmt.Sprintf("%s:%d", s.name, e.line), "%w", e.err)
}

// suggest names the nearest of the known names, or all if none is near.
func suggest(name string, known []string) string {
	best, least := "", len(name)/3+2
	for _, k := range known {
		if len(name) > 100 {
			break
		}
		d := levenshtein.ComputeDistance(strings.ToLower(name), k)
		if d < least || d == least && best != "" && k[0] == name[0] && best[0] != name[0] {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) == 0 {
		return "there are none to choose from"
	}
	return "known are " + misfit.Cut(strings.Join(known, ", "), 400)
}
