package teamfile

import (
	"maps"
	"slices"
	"time"

	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/actors/tool/calculator"
	"github.com/covey-run/covey/actors/tool/command"
	"github.com/covey-run/covey/messages"
)

// builtins are the tools that every file may name.
var builtins = map[string]func() tool.Tool{calculator.Name: calculator.Tool}

// Builtins returns the names of the tools that every file may name, sorted.
func Builtins() []string { return slices.Sorted(maps.Keys(builtins)) }

func (f File) command(t Tool) (tool.Tool, error) {
	effect := messages.Effect(t.Effect)
	if t.Effect == "unsafe" {
		effect = messages.Unsafe
	}
	return command.Command{
		Name: t.Name, Description: t.Description, Argv: t.Command, Dir: f.Dir, Parameters: t.Parameters,
		Effect: effect, Timeout: time.Duration(t.Timeout), Verify: t.Verify,
	}.Tool()
}

// tool finds a tool by name: the file's own, the built-in ones, and extra ones.
func (f File) tool(at []any, name string, extra map[string]tool.Tool) (tool.Tool, error) {
	names := append(Builtins(), slices.Sorted(maps.Keys(extra))...)
	for _, t := range f.Tools {
		if t.Name == name && !t.bare() {
			return f.command(t)
		}
		if !t.bare() {
			names = append(names, t.Name)
		}
	}
	if t, ok := extra[name]; ok {
		t.Name = name
		return t, nil
	}
	if builtin, ok := builtins[name]; ok {
		return builtin(), nil
	}
	slices.Sort(names)
	return tool.Tool{}, f.src.fault(at, "tool %q is not defined; %s", name, suggest(name, slices.Compact(names)))
}
