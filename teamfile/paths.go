package teamfile

import (
	"maps"
	"reflect"
	"slices"

	"github.com/covey-run/covey/internal/misfit"
)

func below(at []any, p any) []any { return append(slices.Clip(at), p) }

// in is a path as the beginning of a message.
func in(at []any) string {
	if len(at) == 0 {
		return ""
	}
	return misfit.Where(at) + ": "
}

// first returns the first key that is set, "" if none is.
func first(set map[string]bool) string {
	for _, key := range slices.Sorted(maps.Keys(set)) {
		if set[key] {
			return key
		}
	}
	return ""
}

func isZero(v any) bool { return reflect.ValueOf(v).IsZero() }
