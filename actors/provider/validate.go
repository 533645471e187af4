package provider

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/covey-run/covey/messages"
)

// Validator judges a parsed text: how sure it is that the text is good, from 0
// to 1, and a note for the model or a person, which may be empty.
//
// An error with no class, or of class malformed or invalid, refuses the text
// outright, whatever other validators say. Any other error (a judge model that
// is down) means that it could not judge: the call fails with it.
type Validator func(ctx context.Context, req *Request, text string) (confidence float64, note string, err error)

// verdict is what validators came to.
type verdict struct {
	confidence float64 // their mean
	notes      string
}

// validate asks every validator. The error of one that refuses or could not
// judge ends it.
func validate(ctx context.Context, vs []Validator, req *Request, text string) (verdict, error) {
	var v verdict
	var notes []string
	for _, f := range vs {
		confidence, note, err := f(ctx, req, text)
		if err != nil {
			return verdict{}, err
		}
		if !(confidence >= 0 && confidence <= 1) { // NaN, too
			return verdict{}, messages.Errorf(messages.Crashed, "", "a validator's confidence of %v is not allowed: use 0 to 1", confidence)
		}
		v.confidence += confidence / float64(len(vs))
		if note != "" {
			notes = append(notes, note)
		}
	}
	v.notes = strings.Join(notes, "; ")
	return v, nil
}

// refuses reports whether a validator's error is about the text.
func refuses(err error) bool {
	switch messages.ClassOf(err) {
	case "", messages.Malformed, messages.Invalid:
		return true
	}
	return false
}

// Length is a validator of how long a text is, in characters; most 0 is no
// limit. It refuses what is shorter or longer.
func Length(least, most int) Validator {
	return func(_ context.Context, _ *Request, text string) (float64, string, error) {
		n := utf8.RuneCountInString(text)
		switch {
		case n < least:
			return 0, "", fmt.Errorf("%d characters are too few, at least %d are needed", n, least)
		case most > 0 && n > most:
			return 0, "", fmt.Errorf("%d characters are too many, at most %d are allowed", n, most)
		}
		return 1, "", nil
	}
}

// Matches is a validator that refuses a text in which the pattern is not; what
// names it in words for the model ("a date like 2024-01-31").
func Matches(pattern *regexp.Regexp, what string) Validator {
	return func(_ context.Context, _ *Request, text string) (float64, string, error) {
		if !pattern.MatchString(text) {
			return 0, "", fmt.Errorf("it has to contain %s", what)
		}
		return 1, "", nil
	}
}

var refusal = regexp.MustCompile(`(?i)\b(I (can(no|')t|am (not able|unable)|'m (not able|unable|sorry))|I’m (sorry|unable)|as an AI( language)? model|I apologi[sz]e)\b`)

// Willing is a validator that doubts a text which begins like a model's refusal:
// its confidence is then 0.3, else 1.
func Willing() Validator {
	return func(_ context.Context, _ *Request, text string) (float64, string, error) {
		if refusal.MatchString(text[:min(len(text), 200)]) {
			return 0.3, "it reads like a refusal", nil
		}
		return 1, "", nil
	}
}
