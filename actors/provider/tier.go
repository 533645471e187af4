package provider

import (
	"errors"

	"github.com/covey-run/covey/messages"
)

// Tier says at what point an answer failed.
type Tier string

// The tiers of failure of an answer.
const (
	// TierCall: the call to the model failed.
	TierCall Tier = "call"
	// TierParse: there is an answer, and it cannot be read.
	TierParse Tier = "parse"
	// TierValidation: it can be read, and validators refuse it.
	TierValidation Tier = "validation"
)

// TierError is in the tree of an [Output]'s errors of tier parse and validation.
type TierError struct {
	Tier Tier
	// Retry says whether asking again may mend it.
	Retry bool
	// Err is what is wrong.
	Err error
}

// Error reads "parse: it is empty".
func (e *TierError) Error() string { return string(e.Tier) + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *TierError) Unwrap() error { return e.Err }

// TierOf returns the tier of a failed call's error, and whether the call may be
// made again. An error without a [TierError] in its tree is the call's own.
func TierOf(err error) (t Tier, retry bool) {
	if err == nil {
		return "", false
	}
	var e *TierError
	if errors.As(err, &e) {
		return e.Tier, e.Retry
	}
	return TierCall, messages.ClassOf(err).Retryable()
}
