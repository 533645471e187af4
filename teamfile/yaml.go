package teamfile

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const (
	maxFile     = 256 << 10 // bytes
	maxBrackets = 10_000    // [ and { in a file
	maxNodes    = 50_000    // values, those that aliases repeat included
	maxNesting  = 64        // lists and mappings within each other
)

// node is a YAML value with its place. value is what json.Unmarshal would give,
// but for mappings, which are a *mapping, and lists, which are a []*node.
type node struct {
	line  int
	value any
}

type mapping struct {
	lines  map[string]int // of the keys
	fields map[string]*node
}

// atLine is an error and where it is.
type atLine struct {
	line int
	err  error
}

func (e *atLine) Error() string { return e.err.Error() }

func at(line int, format string, args ...any) error {
	return &atLine{line, fmt.Errorf(format, args...)}
}

// parseYAML reads the one document in data. An empty one gives an empty mapping.
func parseYAML(data []byte) (*node, error) {
	if len(data) > maxFile {
		return nil, at(1, "a file of %d bytes is not allowed: use at most %d", len(data), maxFile)
	}
	if bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > maxBrackets {
		return nil, at(1, "more than %d brackets are not allowed", maxBrackets)
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		var y yaml.Error
		if errors.As(err, &y) && y.GetToken() != nil {
			return nil, at(y.GetToken().Position.Line, "not YAML: %s", y.GetMessage())
		}
		return nil, at(1, "not YAML: %w", err)
	}
	var body ast.Node
	for _, d := range file.Docs {
		switch {
		case d.Body == nil || d.Body.Type() == ast.CommentType:
		case body != nil:
			return nil, at(line(d.Body), "a second document is not allowed: use one file for each team")
		default:
			body = d.Body
		}
	}
	if body == nil {
		return &node{line: 1, value: &mapping{}}, nil
	}
	return (&reader{anchors: map[string]ast.Node{}}).read(body, 0)
}

type reader struct {
	anchors map[string]ast.Node
	nodes   int
}

func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1
	}
	return n.GetToken().Position.Line
}

func (r *reader) read(n ast.Node, depth int) (*node, error) {
	if r.nodes++; r.nodes > maxNodes {
		return nil, at(line(n), "more than %d values are not allowed", maxNodes)
	}
	if depth > maxNesting {
		return nil, at(line(n), "nested more than %d deep", maxNesting)
	}
	out := &node{line: line(n)}
	switch n := n.(type) {
	case *ast.MappingNode:
		m := &mapping{lines: map[string]int{}, fields: map[string]*node{}}
		out.value = m
		return out, r.fill(m, n.Values, depth)
	case *ast.MappingValueNode:
		m := &mapping{lines: map[string]int{}, fields: map[string]*node{}}
		out.value = m
		return out, r.fill(m, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		list := []*node{}
		for _, v := range n.Values {
			item, err := r.read(v, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		out.value = list
		return out, nil
	case *ast.AnchorNode:
		v, err := r.read(n.Value, depth+1)
		if err == nil {
			r.anchors[n.Name.String()] = n.Value
		}
		return v, err
	case *ast.AliasNode:
		target, ok := r.anchors[n.Value.String()]
		if !ok {
			return nil, at(out.line, "*%s has no &%s before it", n.Value, n.Value)
		}
		return r.read(target, depth+1)
	case *ast.LiteralNode:
		out.value = n.Value.Value
		return out, nil
	case *ast.NullNode:
		return out, nil
	case *ast.StringNode:
		out.value = n.Value
		return out, nil
	case *ast.BoolNode:
		out.value = n.Value
		return out, nil
	case *ast.IntegerNode:
		out.value = n.Value
		return out, nil
	case *ast.FloatNode:
		if math.IsInf(n.Value, 0) {
			return nil, at(out.line, "%s is not a number that can be used here", n.Token.Value)
		}
		out.value = n.Value
		return out, nil
	case *ast.InfinityNode, *ast.NanNode:
		return nil, at(out.line, "%s is not a number that can be used here", n)
	case *ast.TagNode:
		return nil, at(out.line, "the tag %s is not allowed here", n.Start.Value)
	}
	return nil, at(out.line, "%s is not allowed here", n)
}

func (r *reader) fill(m *mapping, values []*ast.MappingValueNode, depth int) error {
	var merged []*node
	for _, v := range values {
		value, err := r.read(v.Value, depth+1)
		if err != nil {
			return err
		}
		if v.Key.IsMergeKey() {
			merged = append(merged, value)
			continue
		}
		key, ok := v.Key.(ast.ScalarNode)
		if !ok {
			return at(line(v.Key), "%s is not a key: use plain text", v.Key)
		}
		name := fmt.Sprint(key.GetValue())
		if _, twice := m.fields[name]; twice {
			return at(line(v.Key), "key %q is there twice, first on line %d", name, m.lines[name])
		}
		m.fields[name], m.lines[name] = value, line(v.Key)
	}
	for _, from := range merged {
		base, ok := from.value.(*mapping)
		if !ok {
			return at(from.line, "<< takes a mapping")
		}
		for name, value := range base.fields {
			if _, own := m.fields[name]; !own {
				m.fields[name], m.lines[name] = value, base.lines[name]
			}
		}
	}
	return nil
}

// plain returns the value without places.
func (n *node) plain() any {
	switch v := n.value.(type) {
	case *mapping:
		m := make(map[string]any, len(v.fields))
		for k, f := range v.fields {
			m[k] = f.plain()
		}
		return m
	case []*node:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = item.plain()
		}
		return list
	}
	return n.value
}

// lineOf returns the line of what a path leads to, or of the nearest thing
// around it that is there.
func (n *node) lineOf(path []any) int {
	if len(path) == 0 {
		return n.line
	}
	switch v := n.value.(type) {
	case *mapping:
		key := fmt.Sprint(path[0])
		f, ok := v.fields[key]
		if !ok {
			return n.line
		}
		if len(path) == 1 {
			return v.lines[key]
		}
		return f.lineOf(path[1:])
	case []*node:
		if i, ok := path[0].(int); ok && i < len(v) {
			return v[i].lineOf(path[1:])
		}
	}
	return n.line
}
