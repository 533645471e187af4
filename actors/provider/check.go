package provider

import "github.com/covey-run/covey/messages"

// badField is the error of every Check in this package.
func badField(config, field string, value any, allowed string) error {
	return messages.Errorf(messages.Invalid, "", "%s: %s: %v is not allowed: use %s", config, field, value, allowed)
}
