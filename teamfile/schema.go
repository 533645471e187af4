package teamfile

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// SchemaID is the address of the format's schema.
const SchemaID = "https://raw.githubusercontent.com/covey-run/covey/main/teamfile/schema.json"

// Schema returns the format's JSON schema (draft 2020-12), for editors. A copy
// is in this package's folder, schema.json.
func Schema() []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, format().text, "", "  "); err != nil {
		panic(err) // it is JSON of our own making
	}
	return append(b.Bytes(), '\n')
}

type formatSchema struct {
	text     []byte
	resolved *jsonschema.Resolved
}

// format is made once, of the Go types. It panics only for a mistake in them,
// which every test meets.
var format = sync.OnceValue(func() formatSchema {
	root := schemaOf[File]()
	root.ID, root.Schema, root.Title = SchemaID, "https://json-schema.org/draft/2020-12/schema", "Covey team file"
	root.Description = "A team of agents, or one agent."
	root.Defs = map[string]*jsonschema.Schema{
		"member": schemaOf[Member](), "plan": schemaOf[Plan](), "supervision": schemaOf[Supervision](),
		"tool": schemaOf[Tool](), "rule": schemaOf[scripted.Rule](), "options": options(), "duration": duration(),
	}
	root.Defs["plan"].Properties["kind"].Enum = enum(kinds()...).Enum
	for name, t := range sections() {
		root.Defs[name] = t
	}
	limit(root)
	for _, d := range root.Defs {
		limit(d)
	}
	text, err := json.Marshal(root)
	if err != nil {
		panic(err)
	}
	resolved, err := root.Resolve(&jsonschema.ResolveOptions{ValidateDefaults: true})
	if err != nil {
		panic(err)
	}
	return formatSchema{text, resolved}
})

func schemaOf[T any]() *jsonschema.Schema {
	special := special()
	t := reflect.TypeFor[T]()
	delete(special, t)
	for f := range t.Fields() {
		if f.Anonymous { // its keys are the type's own
			delete(special, f.Type)
		}
	}
	s, err := jsonschema.For[T](&jsonschema.ForOptions{TypeSchemas: special})
	if err != nil {
		panic(err)
	}
	return notNull(s)
}

// special are the schemas of types that a Go type alone does not tell.
func special() map[reflect.Type]*jsonschema.Schema {
	ref := func(name string) *jsonschema.Schema { return &jsonschema.Schema{Ref: "#/$defs/" + name} }
	usage, err := jsonschema.For[messages.Usage](nil)
	if err != nil {
		panic(err)
	}
	nanoseconds := duration()
	nanoseconds.Type, nanoseconds.Types = "", []string{"string", "integer"}
	directives := []supervisor.Directive{supervisor.DoRestart, supervisor.DoResume, supervisor.DoStop, supervisor.DoEscalate, supervisor.DoQuarantine}
	classes := &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}, Properties: map[string]*jsonschema.Schema{}}
	for _, c := range messages.Classes() {
		classes.Properties[string(c)] = enum(directives...)
		classes.PropertyOrder = append(classes.PropertyOrder, string(c))
	}
	return map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[Duration]():             ref("duration"),
		reflect.TypeFor[Supervision]():          ref("supervision"),
		reflect.TypeFor[time.Duration]():        nanoseconds,
		reflect.TypeFor[[]Member]():             {Type: "array", MinItems: jsonschema.Ptr(1), Items: ref("member")},
		reflect.TypeFor[Plan]():                 {AnyOf: []*jsonschema.Schema{enum(kinds()...), ref("plan")}},
		reflect.TypeFor[[]Tool]():               {Type: "array", Items: &jsonschema.Schema{AnyOf: []*jsonschema.Schema{name(), ref("tool")}}},
		reflect.TypeFor[[]scripted.Rule]():      {Type: "array", Items: ref("rule")},
		reflect.TypeFor[json.RawMessage]():      {Type: "object"},
		reflect.TypeFor[OnClass]():              classes,
		reflect.TypeFor[messages.Usage]():       usage,
		reflect.TypeFor[messages.Class]():       enum(messages.Classes()...),
		reflect.TypeFor[messages.StopReason]():  enum(messages.StopEnd, messages.StopTools, messages.StopLength, messages.StopFiltered, messages.StopOther),
		reflect.TypeFor[scripted.Hang]():        enum(scripted.HangUntilCanceled, scripted.HangForever),
		reflect.TypeFor[supervisor.Restart]():   enum(supervisor.Permanent, supervisor.Transient, supervisor.Temporary),
		reflect.TypeFor[supervisor.Strategy]():  enum(supervisor.OneForOne, supervisor.AllForOne, supervisor.RestForOne),
		reflect.TypeFor[supervisor.Directive](): enum(supervisor.DoEscalate, supervisor.DoStop, supervisor.DoQuarantine),
		reflect.TypeFor[provider.Options]():     ref("options"),
		reflect.TypeFor[provider.Spread]():      enum(provider.SpreadBand, provider.SpreadFull, provider.SpreadEqual, provider.SpreadAdd),
		reflect.TypeFor[provider.Settings]():    ref("settings"),
		reflect.TypeFor[Provider]():             ref("provider"),
		reflect.TypeFor[route.Settings]():       ref("router"),

		reflect.TypeFor[provider.QueueSettings]():    orSwitch(ref("queue")),
		reflect.TypeFor[provider.LimitSettings]():    orSwitch(ref("limits")),
		reflect.TypeFor[provider.CacheSettings]():    orSwitch(ref("cache")),
		reflect.TypeFor[provider.BreakerSettings]():  orSwitch(ref("breaker")),
		reflect.TypeFor[provider.RetrySettings]():    orSwitch(ref("retry")),
		reflect.TypeFor[provider.AdaptiveSettings](): orSwitch(ref("adaptive")),
		reflect.TypeFor[provider.OutputSettings]():   orSwitch(ref("output")),
		reflect.TypeFor[provider.FallbackSettings](): orSwitch(ref("fallback"), &jsonschema.Schema{
			Type: "array", Items: &jsonschema.Schema{Type: "string"}, MaxItems: jsonschema.Ptr(provider.MaxRungs - 1)}),
	}
}

// sections are the definitions of the settings.
func sections() map[string]*jsonschema.Schema {
	defs := map[string]*jsonschema.Schema{
		"settings": schemaOf[provider.Settings](), "provider": schemaOf[Provider](),
		"queue": schemaOf[provider.QueueSettings](), "limits": schemaOf[provider.LimitSettings](), "cache": schemaOf[provider.CacheSettings](),
		"breaker": schemaOf[provider.BreakerSettings](), "retry": schemaOf[provider.RetrySettings](), "adaptive": schemaOf[provider.AdaptiveSettings](),
		"output": schemaOf[provider.OutputSettings](), "fallback": schemaOf[provider.FallbackSettings](), "router": schemaOf[route.Settings](),
	}
	defs["router"].Properties["by"].Enum = enum(route.Kinds()...).Enum
	for _, key := range provider.SettingKeys() {
		section, field, nested := strings.Cut(key, ".")
		if !nested {
			continue
		}
		p := defs[section].Properties[field]
		low, high := provider.SettingRange(key)
		if x, err := strconv.ParseFloat(low, 64); err == nil {
			p.Minimum = &x
		}
		if x, err := strconv.ParseFloat(high, 64); err == nil {
			p.Maximum = &x
		}
	}
	return defs
}

// orSwitch is a section's schema: it may also be switched on or off.
func orSwitch(of ...*jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: append(of, enum("on", "off"), &jsonschema.Schema{Type: "boolean"})}
}

func enum[T ~string](values ...T) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}

func name() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: "^[A-Za-z0-9_-]{1,64}$", Title: "a name of 1 to 64 letters, digits, '-' or '_'"}
}

func duration() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type: "string", Title: "a duration, as 250ms, 10s or 1m30s", MinLength: jsonschema.Ptr(2),
		Pattern: `^([0-9]{1,6}(\.[0-9]{1,9})?h)?([0-9]{1,6}(\.[0-9]{1,9})?m)?([0-9]{1,6}(\.[0-9]{1,9})?s)?([0-9]{1,6}(\.[0-9]{1,9})?ms)?$`,
	}
}

func options() *jsonschema.Schema {
	s, err := jsonschema.For[provider.Options](nil)
	if err != nil {
		panic(err)
	}
	for field, words := range map[string]string{
		"temperature":    "how varied the wording is, as the provider defines it",
		"top_p":          "the share of likely tokens that are considered",
		"seed":           "makes sampling repeatable where the provider can",
		"max_tokens":     "bounds the reply, in tokens",
		"context_tokens": "the window to reserve, in tokens, where the server lets the caller choose",
		"stop":           "texts that end the reply before them",
		"think":          "turns reasoning on for models that can",
	} {
		s.Properties[field].Description = words
	}
	atLeast(s, 0, "temperature", "max_tokens", "context_tokens")
	between(s, 0, 1, "top_p")
	return notNull(s)
}

// limit adds what a Go type cannot say, wherever a field of the name is.
func limit(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	for field, p := range s.Properties {
		switch {
		case field == "name" && slices.Contains(s.Required, field), field == "synthesizer":
			p.Pattern, p.Title = name().Pattern, name().Title
		case field == "kind" && len(p.Enum) == 0, field == "pool", field == "external":
			p.Pattern, p.Title = name().Pattern, name().Title
		case field == "fallback" && p.Type == "array":
			p.MaxItems = jsonschema.Ptr(provider.MaxRungs - 1)
		case field == "effect":
			p.Enum = []any{"unsafe", "pure", "idempotent"}
		case field == "model" && p.Type == "string":
			p.Pattern, p.Title = `^[A-Za-z0-9_-]+(/\S+)?$`, "a model, as ollama/llama3.2 or scripted"
		case field == "command", field == "verify":
			p.MinItems, p.Title = jsonschema.Ptr(1), "a list of texts: the program, and its arguments"
		}
		limit(p)
	}
	atLeast(s, 1, "max_steps", "rounds", "intensity", "factor", "concurrency")
	atLeast(s, 0, "waiting")
	between(s, 0, 1, "jitter")
	limit(s.Items)
	limit(s.AdditionalProperties)
}

func atLeast(s *jsonschema.Schema, low float64, fields ...string) {
	for _, f := range fields {
		if p := s.Properties[f]; p != nil {
			p.Minimum = &low
		}
	}
}

func between(s *jsonschema.Schema, low, high float64, field string) {
	if p := s.Properties[field]; p != nil {
		p.Minimum, p.Maximum = &low, &high
	}
}

// notNull drops the null that Go's pointers and slices may be: in a file, what
// is not there is left out.
func notNull(s *jsonschema.Schema) *jsonschema.Schema {
	if s == nil {
		return nil
	}
	if i := slices.Index(s.Types, "null"); i >= 0 {
		switch s.Types = slices.Delete(slices.Clone(s.Types), i, i+1); len(s.Types) {
		case 1:
			s.Type, s.Types = s.Types[0], nil
		case 0:
			s.Types = nil
		}
	}
	for _, p := range s.Properties {
		notNull(p)
	}
	for _, p := range s.AnyOf {
		notNull(p)
	}
	notNull(s.Items)
	notNull(s.AdditionalProperties)
	return s
}
