package tool

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/covey-run/covey/internal/misfit"
	"github.com/google/jsonschema-go/jsonschema"
)

// noParameters is the schema of a tool that names none.
var noParameters = json.RawMessage(`{"type":"object","properties":{},"additionalProperties":false}`)

const (
	maxSchema = 256 << 10 // bytes of one schema
	maxCached = 1024      // schemas
)

// cache keeps compiled schemas, and why others do not compile, by their text.
// It is guarded by its lock; when it is full it starts anew, which only costs
// time.
var cache = struct {
	sync.RWMutex
	m map[string]entry
}{m: map[string]entry{}}

type entry struct {
	schema *jsonschema.Resolved
	err    error
}

func compiled(parameters json.RawMessage) (*jsonschema.Resolved, error) {
	if len(parameters) == 0 {
		parameters = noParameters
	}
	cache.RLock()
	e, ok := cache.m[string(parameters)]
	cache.RUnlock()
	if ok {
		return e.schema, e.err
	}
	e.schema, e.err = compile(parameters)
	cache.Lock()
	defer cache.Unlock()
	if len(cache.m) >= maxCached {
		clear(cache.m)
	}
	if len(parameters) <= maxSchema {
		cache.m[string(parameters)] = e
	}
	return e.schema, e.err
}

func compile(parameters json.RawMessage) (*jsonschema.Resolved, error) {
	if n := len(parameters); n > maxSchema {
		return nil, fmt.Errorf("a schema of %d bytes is not allowed: use at most %d", n, maxSchema)
	}
	doc, err := parse(parameters)
	if err != nil {
		return nil, err
	}
	root, ok := doc.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is not allowed: use a JSON schema of type object", misfit.Show(doc))
	}
	if t := root["type"]; t != "object" {
		return nil, fmt.Errorf("type: %s is not allowed: use \"object\"", misfit.Show(t))
	}
	if err := misfit.Sound(doc); err != nil {
		return nil, err
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(parameters, &s); err != nil {
		return nil, fmt.Errorf("not a JSON schema: %w", err)
	}
	return s.Resolve(nil)
}
