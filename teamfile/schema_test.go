package teamfile_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/covey-run/covey/teamfile"
)

func TestSchemaFileIsCurrent(t *testing.T) {
	const file = "schema.json"
	if os.Getenv("COVEY_UPDATE") != "" {
		if err := os.WriteFile(file, teamfile.Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, teamfile.Schema()) {
		t.Fatalf("%s is not what Schema returns (%v): write it anew with COVEY_UPDATE=1 go test -run SchemaFile ./teamfile", file, err)
	}
}

// examples are all team files of the repository and of this package's tests.
func examples(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"../examples/*/*.yaml", "testdata/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 3 {
		t.Fatalf("found %v", files)
	}
	return files
}

// An editor has nothing but the schema and the file: so has this test.
func TestSchemaTakesTheExamples(t *testing.T) {
	var s jsonschema.Schema
	if err := json.Unmarshal(teamfile.Schema(), &s); err != nil {
		t.Fatal(err)
	}
	schema, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range examples(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text, err = yaml.YAMLToJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if err := schema.Validate(map[string]any{"name": "a", "modle": "scripted"}); err == nil {
			t.Error("the schema takes an unknown key")
		}
	}
}

// Everything that a person may write has a word of explanation in the editor.
func TestSchemaDescribesEveryKey(t *testing.T) {
	var s jsonschema.Schema
	if err := json.Unmarshal(teamfile.Schema(), &s); err != nil {
		t.Fatal(err)
	}
	var walk func(at string, s *jsonschema.Schema)
	walk = func(at string, s *jsonschema.Schema) {
		if s == nil || strings.HasPrefix(at, "$defs.rule") {
			return
		}
		for key, p := range s.Properties {
			if p.Description == "" && !strings.HasSuffix(at, "on_class") {
				t.Errorf("%s.%s has no description", at, key)
			}
			walk(at+"."+key, p)
		}
		walk(at+".*", s.AdditionalProperties)
		walk(at+"[]", s.Items)
	}
	walk("", &s)
	for name, d := range s.Defs {
		walk("$defs."+name, d)
	}
}
