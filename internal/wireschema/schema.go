// Package wireschema makes messages/schema.json of the Go types and their doc
// comments.
package wireschema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/covey-run/covey/messages"
)

// Generate returns the schema of every kind of body. dir is the source folder of
// package messages.
func Generate(dir string) ([]byte, error) {
	words, err := read(dir)
	if err != nil {
		return nil, err
	}
	g := generator{words: words, defs: map[string]*jsonschema.Schema{}}
	root := &jsonschema.Schema{
		ID: messages.SchemaID, Schema: "https://json-schema.org/draft/2020-12/schema", Title: "Covey messages",
		Description: "An object of one member: the kind of a message, as its header Covey-Kind has it, and the message's body." +
			" A body may have more fields than this: a reader ignores those that it does not know. See docs/wire.md.",
		Type: "object", MinProperties: jsonschema.Ptr(1), MaxProperties: jsonschema.Ptr(1),
		AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}, Properties: map[string]*jsonschema.Schema{},
	}
	for _, kind := range messages.Kinds() {
		e, err := messages.Decode(map[string][]string{messages.HeaderVersion: {"1"}, messages.HeaderKind: {kind}}, []byte("{}"))
		if err != nil {
			return nil, err
		}
		if root.Properties[kind], err = g.ref(reflect.TypeOf(e.Body).Elem()); err != nil {
			return nil, fmt.Errorf("%s: %w", kind, err)
		}
	}
	root.PropertyOrder, root.Defs = messages.Kinds(), g.defs
	if _, err := root.Resolve(nil); err != nil {
		return nil, err
	}
	text, err := json.Marshal(root)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return nil, err
	}
	return append(b.Bytes(), '\n'), nil
}

type generator struct {
	words words
	defs  map[string]*jsonschema.Schema
}

// ref is a reference to the definition of a type of package messages, which is
// made if it is not there.
func (g *generator) ref(t reflect.Type) (*jsonschema.Schema, error) {
	ref := &jsonschema.Schema{Ref: "#/$defs/" + t.Name()}
	if g.defs[t.Name()] != nil {
		return ref, nil
	}
	s := &jsonschema.Schema{Description: g.words.types[t.Name()]}
	g.defs[t.Name()] = s // before its fields, which may be of its own type
	switch {
	case t == reflect.TypeFor[messages.Error]():
		t = reflect.TypeFor[wireError]()
	case t.Kind() == reflect.String:
		s.Type = "string"
		for _, v := range g.words.values[t.Name()] {
			s.Examples = append(s.Examples, v)
		}
		return ref, nil
	}
	s.Type, s.Properties = "object", map[string]*jsonschema.Schema{}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		p, err := g.schema(f.Type)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t.Name(), f.Name, err)
		}
		p.Description = g.words.fields[strings.TrimPrefix(ref.Ref, "#/$defs/")+"."+f.Name]
		s.Properties[name] = p
		s.PropertyOrder = append(s.PropertyOrder, name)
		if options == "" {
			s.Required = append(s.Required, name)
		}
	}
	return ref, nil
}

// wireError is what an Error's own marshalling makes of it.
type wireError struct {
	Class      messages.Class    `json:"class"`
	Source     string            `json:"source,omitempty"`
	Message    string            `json:"message"`
	Status     int               `json:"status,omitempty"`
	RetryAfter time.Duration     `json:"retry_after_ns,omitempty"`
	Until      time.Time         `json:"until,omitzero"`
	Stack      string            `json:"stack,omitempty"`
	Attempts   int               `json:"attempts,omitempty"`
	Others     []*messages.Error `json:"others,omitempty"`
}

func (g *generator) schema(t reflect.Type) (*jsonschema.Schema, error) {
	switch t {
	case reflect.TypeFor[json.RawMessage](): // any JSON
		return &jsonschema.Schema{}, nil
	case reflect.TypeFor[time.Time]():
		return &jsonschema.Schema{Type: "string", Format: "date-time"}, nil
	case reflect.TypeFor[time.Duration](): // nanoseconds, as the field's name says
		return &jsonschema.Schema{Type: "integer"}, nil
	case reflect.TypeFor[[]byte]():
		return &jsonschema.Schema{Type: "string", ContentEncoding: "base64"}, nil
	}
	if t.PkgPath() == reflect.TypeFor[messages.Task]().PkgPath() {
		return g.ref(t)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.schema(t.Elem())
	case reflect.Slice:
		items, err := g.schema(t.Elem())
		return &jsonschema.Schema{Type: "array", Items: items}, err
	case reflect.Map:
		values, err := g.schema(t.Elem())
		return &jsonschema.Schema{Type: "object", AdditionalProperties: values}, err
	case reflect.String:
		return &jsonschema.Schema{Type: "string"}, nil
	case reflect.Bool:
		return &jsonschema.Schema{Type: "boolean"}, nil
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return &jsonschema.Schema{Type: "integer"}, nil
	case reflect.Float64:
		return &jsonschema.Schema{Type: "number"}, nil
	}
	return nil, fmt.Errorf("no schema for the Go type %s", t)
}

// words are the doc comments of types and of their fields ("Task.ID"), and the
// constants of the types that have some.
type words struct {
	types, fields map[string]string
	values        map[string][]string
}

func read(dir string) (words, error) {
	w := words{map[string]string{}, map[string]string{}, map[string][]string{}}
	names, err := fs.Glob(os.DirFS(dir), "*.go")
	if err != nil {
		return w, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), dir+"/"+name, nil, parser.ParseComments)
		if err != nil {
			return w, err
		}
		for _, d := range f.Decls {
			if d, ok := d.(*ast.GenDecl); ok {
				for _, s := range d.Specs {
					w.add(s, d)
				}
			}
		}
	}
	return w, nil
}

func (w *words) add(s ast.Spec, d *ast.GenDecl) {
	switch s := s.(type) {
	case *ast.TypeSpec:
		w.types[s.Name.Name] = text(s.Doc)
		if s.Doc == nil {
			w.types[s.Name.Name] = text(d.Doc)
		}
		if st, ok := s.Type.(*ast.StructType); ok {
			for _, f := range st.Fields.List {
				doc := f.Doc
				if doc == nil {
					doc = f.Comment
				}
				for _, n := range f.Names {
					w.fields[s.Name.Name+"."+n.Name] = text(doc)
				}
			}
		}
	case *ast.ValueSpec:
		t, ok := s.Type.(*ast.Ident)
		if !ok || d.Tok != token.CONST {
			return
		}
		for _, v := range s.Values {
			if l, ok := v.(*ast.BasicLit); ok && l.Kind == token.STRING {
				if v, err := strconv.Unquote(l.Value); err == nil && !slices.Contains(w.values[t.Name], v) {
					w.values[t.Name] = append(w.values[t.Name], v)
				}
			}
		}
	}
}

// text is a doc comment as one line, its links as plain words.
func text(doc *ast.CommentGroup) string {
	return strings.NewReplacer("[", "", "]", "").Replace(strings.Join(strings.Fields(doc.Text()), " "))
}
