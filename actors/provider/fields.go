package provider

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/covey-run/covey/messages"
)

// setting is one value of [Settings] that has a key of its own: "retry.attempts",
// or for a section's switch "retry".
type setting struct {
	key     string
	section int    // its section's field in Settings
	field   int    // its own field in the section
	low, hi string // the allowed range, "" without one
	def     string // in words
}

func (f setting) isSwitch() bool { return !strings.Contains(f.key, ".") }

// shared are the sections that only a provider may have.
var shared = []string{"queue", "limits", "breaker", "adaptive", "prices"}

var spreads = []Spread{SpreadBand, SpreadFull, SpreadEqual, SpreadAdd}

// onByDefault are the sections that are on where nobody says a word.
var onByDefault = []string{"queue", "breaker", "retry"}

// settings lists every setting, in the order of the types' fields.
var settings = sync.OnceValue(func() (all []setting) {
	for section := range reflect.TypeFor[Settings]().Fields() {
		if section.Type.Kind() != reflect.Pointer {
			continue
		}
		name := jsonName(section)
		for field := range section.Type.Elem().Fields() {
			f := setting{key: name + "." + jsonName(field), section: section.Index[0], field: field.Index[0], def: field.Tag.Get("default")}
			f.low, f.hi, _ = strings.Cut(field.Tag.Get("range"), ":")
			if jsonName(field) == "on" {
				f.key = name
			}
			all = append(all, f)
		}
	}
	return all
})

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// SettingKeys are the keys of all settings, as "retry.attempts", in order.
func SettingKeys() []string {
	var keys []string
	for _, f := range settings() {
		keys = append(keys, f.key)
	}
	return keys
}

// SettingRange is what a setting's value may be: two numbers or durations, ""
// for a setting without a range.
func SettingRange(key string) (low, high string) {
	for _, f := range settings() {
		if f.key == key {
			return f.low, f.hi
		}
	}
	return "", ""
}

// value is the setting's value in s, invalid where it is not given.
func (f setting) value(s *Settings) reflect.Value {
	if s == nil {
		return reflect.Value{}
	}
	section := reflect.ValueOf(s).Elem().Field(f.section)
	if section.IsNil() {
		return reflect.Value{}
	}
	v := section.Elem().Field(f.field)
	if v.IsNil() {
		return reflect.Value{}
	}
	return v
}

// set writes a value, making its section if need be.
func (f setting) set(s *Settings, v reflect.Value) {
	section := reflect.ValueOf(s).Elem().Field(f.section)
	if section.IsNil() {
		section.Set(reflect.New(section.Type().Elem()))
	}
	section.Elem().Field(f.field).Set(v)
}

// parse reads a value from an environment variable's text.
func (f setting) parse(text string) (reflect.Value, error) {
	t := reflect.TypeFor[Settings]().Field(f.section).Type.Elem().Field(f.field).Type
	bad := func(allowed string) (reflect.Value, error) {
		return reflect.Value{}, messages.Errorf(messages.Invalid, "", "%s: %q is not allowed: use %s", f.key, text, allowed)
	}
	switch t {
	case reflect.TypeFor[*bool]():
		switch strings.ToLower(text) {
		case "on", "true", "1":
			return reflect.ValueOf(new(true)), nil
		case "off", "false", "0":
			return reflect.ValueOf(new(false)), nil
		}
		return bad("on or off")
	case reflect.TypeFor[*int]():
		if n, err := strconv.Atoi(text); err == nil {
			return reflect.ValueOf(&n), nil
		}
		return bad("a whole number" + f.within())
	case reflect.TypeFor[*float64]():
		if x, err := strconv.ParseFloat(text, 64); err == nil {
			return reflect.ValueOf(&x), nil
		}
		return bad("a number" + f.within())
	case reflect.TypeFor[*Spread]():
		return reflect.ValueOf(new(Spread(text))), nil
	case reflect.TypeFor[*Duration]():
		if d, err := time.ParseDuration(text); err == nil {
			return reflect.ValueOf(new(Duration(d))), nil
		}
		return bad("a duration, as 250ms, 10s or 1m30s" + f.within())
	case reflect.TypeFor[[]string](), reflect.TypeFor[[]messages.Class]():
		list := reflect.MakeSlice(t, 0, 1)
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = reflect.Append(list, reflect.ValueOf(part).Convert(t.Elem()))
			}
		}
		return list, nil
	}
	return bad("the team file: a variable cannot hold it")
}

func (f setting) within() string {
	if f.low == "" {
		return ""
	}
	return " from " + f.low + " to " + f.hi
}

// check refuses a value out of its range, and names it.
func (f setting) check(v reflect.Value) error {
	bad := func(shown any, allowed string) error {
		return messages.Errorf(messages.Invalid, "", "%s: %v is not allowed: use %s", f.key, shown, allowed)
	}
	switch x := v.Interface().(type) {
	case *int:
		if low, hi := number(f.low), number(f.hi); f.low != "" && (float64(*x) < low || float64(*x) > hi) {
			return bad(*x, "a whole number"+f.within())
		}
	case *float64:
		if low, hi := number(f.low), number(f.hi); f.low != "" && !(*x >= low && *x <= hi) {
			return bad(*x, "a number"+f.within())
		}
	case *Duration:
		low, _ := time.ParseDuration(f.low)
		hi, _ := time.ParseDuration(f.hi)
		if d := time.Duration(*x); f.low != "" && (d < low || d > hi) {
			return bad(d, "a duration"+f.within())
		}
	case *Spread:
		if !slices.Contains(spreads, *x) {
			return bad(fmt.Sprintf("%q", string(*x)), names(spreads))
		}
	case map[messages.Class]float64:
		for c, by := range x {
			if !c.Valid() || !(by >= 1 && by <= 100) {
				return bad(fmt.Sprintf("%s: %v", c, by), "classes of failure, and numbers from 1 to 100")
			}
		}
	case []messages.Class:
		for _, c := range x {
			if !c.Valid() {
				return bad(fmt.Sprintf("%q", string(c)), "classes of failure: "+names(messages.Classes()))
			}
		}
	}
	return nil
}

func number(s string) float64 {
	x, _ := strconv.ParseFloat(s, 64)
	return x
}

// show is a value in words, as it would be written in an environment variable.
func (f setting) show(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case *bool:
		switch {
		case !f.isSwitch():
			return strconv.FormatBool(*x)
		case *x:
			return "on"
		}
		return "off"
	case []string:
		return cmp.Or(strings.Join(x, ", "), "none")
	case []messages.Class:
		return cmp.Or(names(x), "none")
	case map[string]string:
		return fmt.Sprintf("%q", x)
	case map[messages.Class]float64:
		return strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(x), "map["), "]")
	}
	return fmt.Sprint(v.Elem())
}

func names[T ~string](list []T) string {
	var s []string
	for _, x := range list {
		s = append(s, string(x))
	}
	return strings.Join(s, ", ")
}
