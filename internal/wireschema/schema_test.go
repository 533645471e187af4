package wireschema_test

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/covey-run/covey/internal/wireschema"
	"github.com/covey-run/covey/messages"
)

const dir = "../../messages"

func TestSchemaFileIsCurrent(t *testing.T) {
	const file = dir + "/schema.json"
	want, err := wireschema.Generate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("COVEY_UPDATE") != "" {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(messages.Schema(), want) {
		t.Fatalf("%s is not what the types say: write it anew with COVEY_UPDATE=1 go test ./internal/wireschema", file)
	}
}

// strict is the schema without leave for fields that it does not name.
func strict(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	var s jsonschema.Schema
	if err := json.Unmarshal(messages.Schema(), &s); err != nil {
		t.Fatal(err)
	}
	for _, d := range s.Defs {
		if d.Type == "object" && d.AdditionalProperties == nil {
			d.AdditionalProperties = &jsonschema.Schema{Not: &jsonschema.Schema{}}
		}
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What Encode makes of a body of each kind, empty and with every field set, is
// what the schema says, to the field.
func TestSchemaIsWhatIsWritten(t *testing.T) {
	schema := strict(t)
	for _, kind := range messages.Kinds() {
		for _, full := range []bool{false, true} {
			e, err := messages.Decode(map[string][]string{messages.HeaderVersion: {"1"}, messages.HeaderKind: {kind}}, []byte("{}"))
			if err != nil {
				t.Fatal(err)
			}
			fill(reflect.ValueOf(e.Body).Elem(), full, 0)
			_, data, err := messages.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			var body any
			if err := json.Unmarshal(data, &body); err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(map[string]any{kind: body}); err != nil {
				t.Errorf("%s: %v\n%s", kind, err, data)
			}
			if err := schema.Validate(map[string]any{kind: map[string]any{"stray": 1}}); err == nil {
				t.Errorf("%s takes anything", kind)
			}
		}
	}
	for _, bad := range []string{`{}`, `{"telepathy": {}}`, `{"cancel": {"run": 1}}`, `{"cancel": {}}`, `{"cancel": {"run": "r"}, "claim": {"node": "n"}}`} {
		var v any
		if err := json.Unmarshal([]byte(bad), &v); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// fill sets what must be there, or everything, to a depth at which every type has
// been met.
func fill(v reflect.Value, full bool, depth int) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Date(2026, 1, 31, 15, 4, 5, 6, time.UTC)))
		return
	case json.RawMessage:
		v.Set(reflect.ValueOf(json.RawMessage(`{"a": [1]}`)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for f, field := range v.Fields() {
			if f.IsExported() {
				fill(field, full, depth+1)
			}
		}
	case reflect.Pointer:
		if full && depth < 7 || v.Type() == reflect.TypeFor[*messages.Error]() {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), full, depth+1)
		}
	case reflect.Slice:
		if full && depth < 7 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), full, depth+1)
		}
	case reflect.Map:
		if full {
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(reflect.ValueOf("k"), reflect.ValueOf("v"))
		}
	case reflect.String:
		if full {
			v.SetString("x")
		}
	case reflect.Int, reflect.Int64:
		if full {
			v.SetInt(2)
		}
	case reflect.Uint64:
		if full {
			v.SetUint(2)
		}
	case reflect.Uint8:
		v.SetUint(2)
	case reflect.Float64:
		if full {
			v.SetFloat(0.5)
		}
	case reflect.Bool:
		v.SetBool(full)
	default:
		panic(v.Type())
	}
}

// Every field and every type says what it means, unless its name says it all.
func TestSchemaHasTheComments(t *testing.T) {
	var s jsonschema.Schema
	if err := json.Unmarshal(messages.Schema(), &s); err != nil {
		t.Fatal(err)
	}
	for name, d := range s.Defs {
		if d.Description == "" {
			t.Errorf("%s has no description", name)
		}
	}
	if d := s.Defs["Task"].Properties["deadline"].Description; d != "Deadline is when the run fails with class timeout; zero for none." {
		t.Errorf("%q", d)
	}
	if !slices.Contains(s.Defs["Class"].Examples, any("fenced")) || !slices.Contains(s.Defs["Priority"].Examples, any("")) {
		t.Errorf("%v, %v", s.Defs["Class"].Examples, s.Defs["Priority"].Examples)
	}
}
