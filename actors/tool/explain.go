package tool

import (
	"errors"
	"fmt"
	"strings"

	"github.com/covey-run/covey/internal/misfit"
	"github.com/google/jsonschema-go/jsonschema"
)

// explain words a validator's verdict for a model: which argument, its value,
// and what is allowed.
func explain(root *jsonschema.Schema, value any, verdict error) error {
	f, ok := misfit.Find(root, value)
	if !ok {
		text := verdict.Error()
		if i := strings.LastIndex(text, ": validating "); i >= 0 {
			text = text[i+len(": validating "):]
		}
		return errors.New("arguments: " + misfit.Cut(text, 400))
	}
	where := misfit.Cut(misfit.Where(f.Path), 80)
	switch {
	case f.Kind == misfit.Missing:
		return fmt.Errorf("argument %q is missing: use %s", where, f.Allowed)
	case f.Kind == misfit.Unknown:
		return fmt.Errorf("argument %q is unknown: use %s", where, f.Allowed)
	case where == "":
		return fmt.Errorf("arguments: %s is not allowed: use %s", misfit.Show(f.Value), f.Allowed)
	}
	return fmt.Errorf("argument %q: %s is not allowed: use %s", where, misfit.Show(f.Value), f.Allowed)
}
