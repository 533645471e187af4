package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/covey-run/covey/internal/misfit"
	"github.com/covey-run/covey/messages"
)

const (
	maxSchema = 256 << 10 // bytes of one schema
	maxKept   = 256       // compiled schemas
)

// schemas keeps compiled schemas by their text; when it is full it starts anew,
// which only costs time.
var schemas = struct {
	sync.RWMutex
	m map[string]*jsonschema.Resolved
}{m: map[string]*jsonschema.Resolved{}}

// CheckFormat returns an error of class invalid unless format is a JSON schema
// of at most 256 KB.
func CheckFormat(format json.RawMessage) error {
	_, err := schemaOf(format)
	return err
}

// Fits returns nil if text is one JSON value that satisfies the schema format.
// Its error is of class malformed and says in words where it does not and what
// would; or of class invalid if format is no schema.
func Fits(format json.RawMessage, text string) error {
	schema, err := schemaOf(format)
	if err != nil {
		return err
	}
	return fits(schema, text)
}

func schemaOf(format json.RawMessage) (*jsonschema.Resolved, error) {
	schemas.RLock()
	r := schemas.m[string(format)]
	schemas.RUnlock()
	if r != nil {
		return r, nil
	}
	if n := len(format); n > maxSchema {
		return nil, messages.Errorf(messages.Invalid, "", "format: a schema of %d bytes is not allowed: use at most %d", n, maxSchema)
	}
	r, err := compile(format)
	if err != nil {
		return nil, messages.Errorf(messages.Invalid, "", "format: not a JSON schema: %w", err)
	}
	schemas.Lock()
	defer schemas.Unlock()
	if len(schemas.m) >= maxKept {
		clear(schemas.m)
	}
	schemas.m[string(format)] = r
	return r, nil
}

func compile(format json.RawMessage) (*jsonschema.Resolved, error) {
	var doc any
	if err := json.Unmarshal(format, &doc); err != nil {
		return nil, err
	}
	if err := misfit.Sound(doc); err != nil {
		return nil, err
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(format, &s); err != nil {
		return nil, err
	}
	return s.Resolve(nil)
}

// fits judges a text; a nil schema takes any JSON.
func fits(schema *jsonschema.Resolved, text string) error {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return messages.Errorf(messages.Malformed, "", "it is not JSON: %w", err)
	}
	if schema == nil {
		return nil
	}
	if err := schema.Validate(v); err != nil {
		return messages.Errorf(messages.Malformed, "", "it does not fit the format: %w", inWords(schema.Schema(), v, err))
	}
	return nil
}

// inWords says what is wrong so that a model can mend it.
func inWords(root *jsonschema.Schema, v any, verdict error) error {
	f, ok := misfit.Find(root, v)
	if !ok {
		text := verdict.Error()
		if i := strings.LastIndex(text, ": validating "); i >= 0 {
			text = text[i+len(": validating "):]
		}
		return errors.New(misfit.Cut(text, 400))
	}
	where := misfit.Cut(misfit.Where(f.Path), 80)
	switch {
	case f.Kind == misfit.Missing:
		return fmt.Errorf("field %q is missing: use %s", where, f.Allowed)
	case f.Kind == misfit.Unknown:
		return fmt.Errorf("field %q is unknown: use %s", where, f.Allowed)
	case where == "":
		return fmt.Errorf("%s is not allowed: use %s", misfit.Show(f.Value), f.Allowed)
	}
	return fmt.Errorf("field %q: %s is not allowed: use %s", where, misfit.Show(f.Value), f.Allowed)
}
