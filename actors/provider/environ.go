package provider

import (
	"cmp"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"

	"github.com/covey-run/covey/messages"
)

const (
	environPrefix = "COVEY_"
	environCall   = "CALL_"
)

// EnvironName is the variable of a setting: of a provider, or of a kind of call.
func EnvironName(provider, kind, key string) string {
	name := environPrefix
	if kind != "" {
		name += environCall + variable(kind)
	} else {
		name += variable(provider)
	}
	return name + "_" + variable(key)
}

// variable spells a name as part of a variable's.
func variable(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}

// fromEnviron reads the environment's level: one entry for each variable.
func fromEnviron(environ, providers, kinds []string) ([]leveled, error) {
	byName := map[string]setting{}
	for _, f := range settings() {
		byName[variable(f.key)] = f
	}
	var known []string
	for name := range byName {
		known = append(known, name)
	}
	slices.Sort(known)
	providers, kinds = longestFirst(providers), longestFirst(kinds)
	var ofProviders, ofKinds []leveled
	environ = slices.Clone(environ)
	slices.Sort(environ)
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		rest, ours := strings.CutPrefix(name, environPrefix)
		if !ours {
			continue
		}
		at := leveled{source: func(string) string { return "environment " + name }}
		var key string
		if of, ok := strings.CutPrefix(rest, environCall); ok {
			at.kind, key = kindAndKey(of, kinds, known)
			if at.kind == "" {
				return nil, messages.Errorf(messages.Invalid, "", "environment: %s names no setting: use %s<KIND>_<KEY> with one of the keys %s",
					name, environPrefix+environCall, strings.Join(known, ", "))
			}
		} else {
			for _, p := range providers {
				if of, ok := strings.CutPrefix(rest, variable(p)+"_"); ok {
					at.provider, key = p, of
					break
				}
			}
			if at.provider == "" || slices.Contains(others, key) {
				continue // not ours to judge
			}
		}
		f, ok := byName[key]
		if !ok {
			return nil, messages.Errorf(messages.Invalid, "", "environment: %s names no setting; did you mean %s?", name,
				strings.TrimSuffix(name, key)+nearest(key, known))
		}
		if section, _, _ := strings.Cut(f.key, "."); at.kind != "" && slices.Contains(shared, section) {
			return nil, messages.Errorf(messages.Invalid, "", "environment: %s: a provider's calls share its %s: use %s", name, section, EnvironName("<provider>", "", f.key))
		}
		v, err := f.parse(text)
		if err != nil && f.key == "fallback" { // the rungs may be there instead of the switch
			f = byName["FALLBACK_RUNGS"]
			v, err = f.parse(text)
		}
		if err == nil {
			err = f.check(v)
		}
		if err != nil {
			return nil, messages.Errorf(messages.Invalid, "", "environment %s: %w", name, err)
		}
		at.settings = &Settings{}
		f.set(at.settings, v)
		if at.kind != "" {
			ofKinds = append(ofKinds, at)
		} else {
			ofProviders = append(ofProviders, at)
		}
	}
	return append(ofProviders, ofKinds...), nil
}

// others are variables of a provider that are no settings.
var others = []string{"API_KEY", "URL", "BASE_URL"}

// kindAndKey splits SUMMARY_RETRY_ATTEMPTS: at a kind that is known, else at the
// longest key.
func kindAndKey(text string, kinds, known []string) (kind, key string) {
	for _, k := range kinds {
		if rest, ok := strings.CutPrefix(text, variable(k)+"_"); ok && slices.Contains(known, rest) {
			return k, rest
		}
	}
	for _, k := range known {
		if of, ok := strings.CutSuffix(text, "_"+k); ok && of != "" && len(k) > len(key) {
			kind, key = strings.ToLower(of), k
		}
	}
	return kind, key
}

func longestFirst(names []string) []string {
	names = slices.Clone(names)
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return slices.Compact(names)
}

func nearest(name string, known []string) string {
	return slices.MinFunc(known, func(a, b string) int {
		return cmp.Compare(levenshtein.ComputeDistance(name, a), levenshtein.ComputeDistance(name, b))
	})
}
