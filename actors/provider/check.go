package provider

import (
	"strconv"

	"github.com/covey-run/covey/messages"
)

// badField is the error of every Check in this package.
func badField(config, field string, value any, allowed string) error {
	return messages.Errorf(messages.Invalid, "", "%s: %s: %v is not allowed: use %s", config, field, value, allowed)
}

// checkClasses refuses a list that names a class which is unknown or for which
// may is false.
func checkClasses(config, field string, list []messages.Class, may func(messages.Class) bool) error {
	for _, c := range list {
		if !c.Valid() || !may(c) {
			var allowed []messages.Class
			for _, k := range messages.Classes() {
				if may(k) {
					allowed = append(allowed, k)
				}
			}
			return badField(config, field, c, "any of "+joined(allowed))
		}
	}
	return nil
}

func joined(list []messages.Class) string {
	s := ""
	for i, c := range list {
		if i > 0 {
			s += ", "
		}
		s += string(c)
	}
	return s
}

// within reports low <= f <= high; false for what is not a number.
func within(f, low, high float64) bool { return f >= low && f <= high }

func format(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
