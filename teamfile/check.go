package teamfile

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/messages"
)

// known are the providers that a file may have settings for without naming a
// model of theirs.
var known = []string{"anthropic", "ollama", "openai", "scripted"}

// Check returns an error of class invalid for the first thing in the file that
// contradicts another. What a single value may be is checked when it is read.
func (f File) Check() error {
	if f.Name == "" {
		return f.src.refused([]any{"name"}, "", name().Title)
	}
	if len(f.Members) == 0 && f.Role == "" && f.External == "" {
		return f.src.fault(nil, "a team needs members, and a single agent needs a role: this file has neither")
	}
	if len(f.Member.Tools) > 0 {
		return f.src.fault([]any{"tools"}, "Member.Tools is not allowed at the top: a file's tools are in Tools")
	}
	if err := f.checkMember(nil, f.Member); err != nil {
		return err
	}
	for _, check := range []func() error{f.checkTools, f.checkProviders, f.checkRouters, f.checkScripted} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (f File) checkMember(at []any, m Member) error {
	agent := map[string]bool{
		"role": m.Role != "", "instructions": m.Instructions != "", "max_steps": m.Steps != 0, "timeout": m.Timeout != 0,
		"fallback": len(m.Fallback) > 0, "kind": m.Kind != "", "priority": m.Priority != 0, "call": m.Call != nil,
		"max_park": m.Park != nil, "restart": m.Restart != "", "tools": len(m.Tools) > 0,
		"uses": len(m.Uses) > 0, "pool": m.Pool != "", "external": m.External != "", "options": !isZero(m.Options),
	}
	team := map[string]bool{"plan": m.Plan != nil, "supervision": m.Supervision != nil}
	model := map[string]bool{"model": m.Model != "" && at != nil}
	for key, given := range agent {
		model[key] = given && key != "external" && key != "timeout" && key != "restart"
	}
	if len(m.Members) == 0 {
		if key := first(team); key != "" {
			return f.src.fault(below(at, key), "%s%s is for a team, and this has no members", in(at), key)
		}
		if m.Call != nil {
			if err := m.Call.Check(provider.ForCall); err != nil {
				return f.src.fault(f.faulty(below(at, "call"), err), "%scall: %w", in(at), err)
			}
		}
		if len(m.Fallback) > 0 {
			s := provider.Settings{Fallback: &provider.FallbackSettings{Rungs: m.Fallback}}
			if err := s.Check(provider.ForCall); err != nil {
				return f.src.fault(below(at, "fallback"), "%s%w", in(at), err)
			}
		}
		if key := first(model); m.External != "" && key != "" {
			return f.src.fault(below(at, key), "%s%s is not allowed together with external: the program %q answers, not a model", in(at), key, m.External)
		}
		if err := f.once(at, "uses", m.Uses); err != nil {
			return err
		}
		for i, name := range m.Uses {
			if slices.Contains(m.Tools, name) {
				return f.src.fault(below(below(at, "uses"), i), "%suses: %q is in tools too: use one of them", in(at), name)
			}
		}
		return f.once(at, "tools", m.Tools)
	}
	if key := first(agent); key != "" {
		return f.src.fault(below(at, key), "%s%s is for an agent, and this has members: give it to them", in(at), key)
	}
	if m.Plan == nil {
		return f.src.fault(at, "%splan is missing: use one of %s", in(at), strings.Join(kinds(), ", "))
	}
	var names []string
	for i, sub := range m.Members {
		here := below(below(at, "members"), i)
		if slices.Contains(names, sub.Name) {
			return f.src.fault(below(here, "name"), "members: %q is there twice: use names of their own", sub.Name)
		}
		names = append(names, sub.Name)
		if err := f.checkMember(here, sub); err != nil {
			return err
		}
	}
	return f.checkPlan(below(at, "plan"), *m.Plan, names)
}

func (f File) checkPlan(at []any, p Plan, members []string) error {
	k, ok := plans[p.Kind]
	if !ok {
		return f.src.refused(below(at, "kind"), p.Kind, "one of "+strings.Join(kinds(), ", "))
	}
	given := map[string]bool{"rounds": p.Rounds != 0, "synthesizer": p.Synthesizer != "", "prompt": p.Prompt != ""}
	for _, key := range k.keys {
		delete(given, key)
	}
	if key := first(given); key != "" {
		return f.src.fault(below(at, key), "plan: a %s takes no %s", p.Kind, key)
	}
	if p.Synthesizer != "" && !slices.Contains(members, p.Synthesizer) {
		return f.src.fault(below(at, "synthesizer"), "plan: synthesizer: %q is no member; %s", p.Synthesizer, suggest(p.Synthesizer, members))
	}
	return nil
}

func (f File) checkTools() error {
	var names []string
	for i, t := range f.Tools {
		at := []any{"tools", i}
		if slices.Contains(names, t.Name) {
			return f.src.fault(at, "tools: %q is there twice", t.Name)
		}
		names = append(names, t.Name)
		_, builtin := builtins[t.Name]
		switch {
		case t.bare():
		case builtin:
			return f.src.fault(at, "tools: %q is built in: give your own another name", t.Name)
		case t.Command == nil:
			return f.src.fault(at, "tools[%d].command is missing: use a list of texts: the program, and its arguments", i)
		default:
			if _, err := f.command(t); err != nil {
				return f.src.fault(at, "%w", err)
			}
		}
	}
	return nil
}

func (f File) checkProviders() error {
	used := append(f.providersUsed(f.Member), known...)
	for _, s := range f.allSettings() {
		if s.Fallback != nil {
			for _, ref := range s.Fallback.Rungs {
				name, _ := provider.Split(ref)
				used = append(used, name)
			}
		}
	}
	for _, r := range f.Routers {
		for _, ref := range r.Refs() {
			name, _ := provider.Split(ref)
			used = append(used, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Providers)) {
		at := []any{"providers", name}
		if !slices.Contains(used, name) && f.Providers[name].API == "" {
			return f.src.fault(at, "providers: no member's model is of %q; %s", name, suggest(name, known))
		}
		p := f.Providers[name]
		if p.URL != "" {
			u, err := url.Parse(p.URL)
			switch {
			case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
				return f.src.refused(below(at, "url"), p.URL, "an address, as http://127.0.0.1:11434")
			case u.User != nil || u.RawQuery != "" || u.Fragment != "":
				return f.src.fault(below(at, "url"), "providers.%s.url: a user, a password or a query is not allowed in a team file: keys come from the environment", name)
			}
		}
		if q := p.Queue; q != nil && (p.Concurrency != nil && q.Concurrency != nil || p.Waiting != nil && q.Waiting != nil) {
			return f.src.fault(at, "providers.%s: concurrency and waiting are given twice, once under queue: use one of them", name)
		}
		if err := p.settings().Check(provider.ForProvider); err != nil {
			return f.src.fault(f.faulty(at, err), "providers.%s: %w", name, err)
		}
		if p.API != "" && !slices.Contains(apis, p.API) {
			return f.src.refused(below(at, "api"), p.API, "one of "+strings.Join(apis, ", "))
		}
		if p.KeyEnv != "" && !variable.MatchString(p.KeyEnv) { // it may be the key itself: it is not shown
			return f.src.fault(below(at, "key_env"), "providers.%s.key_env: this is not allowed: use the name of an environment variable, as OPENAI_API_KEY; a key has no place in a team file", name)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(f.Calls)) {
		at := []any{"calls", kind}
		if err := messages.CheckName("calls", kind); err != nil {
			return f.src.fault(at, "%w", err)
		}
		if err := f.Calls[kind].Check(provider.ForKind); err != nil {
			return f.src.fault(f.faulty(at, err), "calls.%s: %w", kind, err)
		}
	}
	return nil
}

// apis are the APIs that a provider of any name may speak.
var apis = []string{"anthropic", "ollama", "openai"}

// allSettings are those of providers and of types of call.
func (f File) allSettings() (all []provider.Settings) {
	for _, p := range f.Providers {
		all = append(all, p.Settings)
	}
	for _, s := range f.Calls {
		all = append(all, s)
	}
	return all
}

// checkRouters makes each router over models that are never called: a price that
// is missing, or a setting that has no place, is found now.
func (f File) checkRouters() error {
	for _, name := range slices.Sorted(maps.Keys(f.Routers)) {
		at := []any{"routers", name}
		if err := messages.CheckName("routers", name); err != nil {
			return f.src.fault(at, "%w", err)
		}
		never := provider.Func(nil)
		r, err := f.Routers[name].New(context.Background(), name, route.Parts{
			Model: func(string) provider.Model { return never },
			Price: func(ref string) (provider.Price, bool) {
				of, model := provider.Split(ref)
				p, ok := f.Providers[of].Prices[model]
				return p, ok
			},
		})
		if err != nil {
			return f.src.fault(at, "routers.%s: %w", name, err)
		}
		if err := r.Close(context.Background()); err != nil {
			return f.src.fault(at, "routers.%s: %w", name, err)
		}
	}
	return nil
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// faulty is the place of a setting that was refused: its error begins with the
// setting's key.
func (f File) faulty(at []any, err error) []any {
	key, _, _ := strings.Cut(err.Error(), ":")
	for part := range strings.SplitSeq(key, ".") {
		if strings.ContainsAny(part, " ") {
			break
		}
		at = below(at, part)
	}
	return at
}

func (f File) providersUsed(m Member) (names []string) {
	name, _ := provider.Split(m.Model)
	names = append(names, name)
	for _, ref := range m.Fallback {
		name, _ := provider.Split(ref)
		names = append(names, name)
	}
	for _, sub := range m.Members {
		names = append(names, f.providersUsed(sub)...)
	}
	return names
}

func (f File) checkScripted() error {
	for i, r := range f.Scripted {
		if r.Name == "" {
			r.Name = fmt.Sprintf("rule %d", i+1)
		}
		if err := scripted.Check([]scripted.Rule{r}); err != nil {
			return f.src.fault([]any{"scripted", i}, "%w", err)
		}
	}
	return nil
}

func (f File) once(at []any, key string, names []string) error {
	for i, n := range names {
		if slices.Contains(names[:i], n) {
			return f.src.fault(below(below(at, key), i), "%s%s: %q is there twice", in(at), key, n)
		}
	}
	return nil
}
