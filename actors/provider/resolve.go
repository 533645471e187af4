package provider

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/covey-run/covey/messages"
)

// Level is what one place says: code, or a file.
type Level struct {
	// Providers are settings by provider: "ollama".
	Providers map[string]Settings
	// Calls are settings by type of call, [Request.Kind]. At one level they beat
	// the provider's.
	Calls map[string]Settings
	// Where names the place of a value for people: "team.yaml:12". nil: the
	// level's name, the key's path: "file calls.summary".
	Where func(path ...string) string
}

// Levels are the places in which settings are given, the weakest first: what
// code says, what a file says, the environment, and the call itself. A value
// beats those of the levels before it; an explicit off at any level beats all.
//
// Variables are COVEY_<PROVIDER>_<KEY> and COVEY_CALL_<KIND>_<KEY>, with the
// key's dots as underscores: COVEY_OLLAMA_RETRY_ATTEMPTS=2, COVEY_OLLAMA_CACHE=on,
// COVEY_CALL_SUMMARY_FALLBACK=scripted. What is no letter or digit in a
// provider's or a kind's name is an underscore, too.
type Levels struct {
	Code, File Level
	// Environ is the environment, as os.Environ gives it.
	Environ []string
}

// Value is one setting as it is in effect.
type Value struct {
	// Key is the setting's: "retry.attempts", or "retry" for its switch.
	Key string `json:"key"`
	// Value is in words: "4", "1m0s", "off".
	Value string `json:"value"`
	// Source is who said so: "default", "code …", a file and line, "environment
	// COVEY_…", "call".
	Source string `json:"source"`
}

// Effective is what holds for a call.
type Effective struct {
	Provider string `json:"provider"`
	Kind     string `json:"kind,omitempty"`
	// Settings has every section, with its switch set; a value that is nil has
	// its default.
	Settings Settings `json:"-"`
	// Values are all settings, those of a section that is off left out.
	Values []Value `json:"values"`
}

// Resolver answers what holds for a call. It is the one place that knows which
// level beats which. It is safe for concurrent use.
type Resolver struct {
	levels []leveled // weakest first
	kinds  []string
}

// leveled are one level's settings of one provider or one kind.
type leveled struct {
	provider, kind string // one of them is set
	settings       *Settings
	source         func(key string) string
}

// NewResolver checks everything that the levels say. Class invalid: a value out
// of its range, a setting in the wrong place, or a variable that is like one of
// ours and names no setting. providers are the names that the environment may
// speak of, beside those of the levels.
func NewResolver(l Levels, providers ...string) (*Resolver, error) {
	r := &Resolver{}
	for _, level := range []struct {
		name string
		Level
	}{{"code", l.Code}, {"file", l.File}} {
		where := level.Where
		if where == nil {
			where = func(path ...string) string { return level.name + " " + strings.Join(path, ".") }
		}
		add := func(group, name string, s Settings) error {
			if err := s.Check(map[bool]Scope{true: ForProvider, false: ForKind}[group == "providers"]); err != nil {
				return messages.Errorf(messages.Invalid, "", "%s.%s: %w", group, name, err)
			}
			at := leveled{settings: &s, source: func(key string) string { return where(append([]string{group, name}, strings.Split(key, ".")...)...) }}
			if group == "providers" {
				at.provider = name
				providers = append(providers, name)
			} else {
				at.kind = name
				r.kinds = append(r.kinds, name)
			}
			r.levels = append(r.levels, at)
			return nil
		}
		for _, name := range slices.Sorted(maps.Keys(level.Providers)) {
			if err := add("providers", name, level.Providers[name]); err != nil {
				return nil, err
			}
		}
		for _, kind := range slices.Sorted(maps.Keys(level.Calls)) {
			if err := add("calls", kind, level.Calls[kind]); err != nil {
				return nil, err
			}
		}
	}
	env, err := fromEnviron(l.Environ, providers, r.kinds)
	r.levels = append(r.levels, env...)
	for _, at := range env {
		if at.kind != "" {
			r.kinds = append(r.kinds, at.kind)
		}
	}
	slices.Sort(r.kinds)
	r.kinds = slices.Compact(r.kinds)
	return r, err
}

// Kinds are the types of call that have settings of their own, sorted.
func (r *Resolver) Kinds() []string { return slices.Clone(r.kinds) }

// Resolve says what holds for calls of a kind to a provider's model, and of one
// call that has settings of its own; nil: it has none.
func (r *Resolver) Resolve(name, kind string, call *Settings) (Effective, error) {
	e := Effective{Provider: name, Kind: kind}
	var apply []leveled
	for _, at := range r.levels {
		if at.provider == name && at.provider != "" || at.kind == kind && at.kind != "" {
			apply = append(apply, at)
		}
	}
	if call != nil {
		if err := call.Check(ForCall); err != nil {
			return e, messages.Errorf(messages.Invalid, "", "the call's settings: %w", err)
		}
		apply = append(apply, leveled{settings: call, source: func(string) string { return "call" }})
	}
	all := settings()
	for len(all) > 0 { // a section at a time
		n := 1
		for n < len(all) && all[n].section == all[0].section {
			n++
		}
		e.section(all[:n], apply)
		all = all[n:]
	}
	for _, at := range apply {
		for model, price := range at.settings.Prices {
			if e.Settings.Prices == nil {
				e.Settings.Prices = map[string]Price{}
			}
			e.Settings.Prices[model] = price
		}
	}
	for _, model := range slices.Sorted(maps.Keys(e.Settings.Prices)) {
		p := e.Settings.Prices[model]
		source := ""
		for _, at := range apply {
			if _, ok := at.settings.Prices[model]; ok {
				source = at.source("prices." + model)
			}
		}
		e.Values = append(e.Values, Value{"prices." + model, p.String(), source})
	}
	return e, e.Settings.Check(ForProvider)
}

// String reads "$0.1 in, $0.2 out, $0.05 cached".
func (p Price) String() string {
	s := fmt.Sprintf("$%g in, $%g out", p.Input, p.Output)
	if p.Cached != nil {
		s += fmt.Sprintf(", $%g cached", *p.Cached)
	}
	return s
}

// section resolves one section. The first field is its switch.
func (e *Effective) section(fields []setting, apply []leveled) {
	sw := fields[0]
	name, _, _ := strings.Cut(sw.key, ".")
	on, source, from := slices.Contains(onByDefault, name), "default", 0
	for i, at := range apply {
		for _, f := range fields {
			v := f.value(at.settings)
			if !v.IsValid() {
				continue
			}
			if f != sw { // a section with values is on
				if !on {
					on, source = true, at.source(f.key)
				}
				continue
			}
			if !v.Elem().Bool() { // it beats what any other level says
				e.put(sw, reflect.ValueOf(new(false)), at.source(sw.key))
				return
			}
			on, source, from = true, at.source(sw.key), i
		}
	}
	e.put(sw, reflect.ValueOf(new(on)), source)
	if !on {
		return
	}
	for _, f := range fields[1:] {
		e.Values = append(e.Values, Value{f.key, f.def, "default"})
		said := &e.Values[len(e.Values)-1]
		for _, at := range apply[from:] {
			if v := f.value(at.settings); v.IsValid() {
				f.set(&e.Settings, v)
				said.Value, said.Source = f.show(v), at.source(f.key)
			}
		}
	}
}

func (e *Effective) put(sw setting, v reflect.Value, source string) {
	sw.set(&e.Settings, v)
	e.Values = append(e.Values, Value{sw.key, sw.show(v), source})
}

// Scope is what settings are for, which decides what they may hold.
type Scope int

const (
	// ForProvider: everything.
	ForProvider Scope = iota
	// ForKind: not what all callers of a provider share.
	ForKind
	// ForCall: as ForKind, and of the cache only its switch.
	ForCall
)

// Check refuses values out of range, naming the key, the value and what is
// allowed, and settings that have no place in the scope.
func (s Settings) Check(scope Scope) error {
	for _, f := range settings() {
		v := f.value(&s)
		if !v.IsValid() {
			continue
		}
		if section, _, _ := strings.Cut(f.key, "."); scope != ForProvider && slices.Contains(shared, section) {
			return messages.Errorf(messages.Invalid, "", "%s is not allowed here: a provider's calls share it: set it under providers", section)
		}
		if scope == ForCall && strings.HasPrefix(f.key, "cache.") {
			return messages.Errorf(messages.Invalid, "", "%s is not allowed here: a call can only switch the cache off: set it under providers or calls", f.key)
		}
		if err := f.check(v); err != nil {
			return err
		}
	}
	if scope != ForProvider && s.Prices != nil {
		return messages.Errorf(messages.Invalid, "", "prices is not allowed here: set it under providers")
	}
	for model, p := range s.Prices {
		for _, x := range []struct {
			key   string
			value *float64
		}{{"input", &p.Input}, {"output", &p.Output}, {"cached", p.Cached}} {
			if x.value != nil && !(*x.value >= 0 && *x.value <= 1e6) {
				return messages.Errorf(messages.Invalid, "", "prices.%s.%s: %v is not allowed: use dollars per million tokens, from 0 to 1000000", model, x.key, *x.value)
			}
		}
	}
	return s.Fallback.check(scope == ForProvider)
}

// check looks at the rungs. whole: the texts that they need are there, too; a
// type of call or a call may name "canned" and leave its texts to its provider.
func (f *FallbackSettings) check(whole bool) error {
	if f == nil {
		return nil
	}
	if n := len(f.Rungs) + 1; n > MaxRungs {
		return badField("fallback", "rungs", fmt.Sprintf("%d with the first choice", n), fmt.Sprintf("at most %d, the first choice among them", MaxRungs))
	}
	for i, ref := range f.Rungs {
		name, _ := Split(ref)
		switch rule, is := strings.CutPrefix(ref, "rule:"); {
		case name == "", is && rule == "":
			return badField("fallback", fmt.Sprintf("rungs[%d]", i), fmt.Sprintf("%q", ref), "a model as ollama/llama3.2, canned, parked, or rule:NAME")
		case whole && ref == RungNameCanned && len(f.Canned) == 0:
			return badField("fallback", "canned", "none", "at least one text, for the rung canned")
		}
		if slices.Contains(f.Rungs[:i], ref) {
			return badField("fallback", fmt.Sprintf("rungs[%d]", i), fmt.Sprintf("%q", ref), "each rung once")
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(f.Canned)) {
		if f.Canned[kind] == "" {
			return badField("fallback", "canned."+kind, `""`, "a text")
		}
	}
	return nil
}

// The rungs that are no models.
const (
	RungNameCanned = "canned"
	RungNameParked = "parked"
	RungNameRule   = "rule:" // and the rule's name
)

// Fallbacks are the rungs of every fallback that the levels set.
func (r *Resolver) Fallbacks() [][]string {
	var all [][]string
	for _, at := range r.levels {
		if f := at.settings.Fallback; f != nil && len(f.Rungs) > 0 {
			all = append(all, slices.Clone(f.Rungs))
		}
	}
	return all
}
