// Package docs tests what the guides say of the code.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/teamfile"
)

// Every test that docs/providers.md names is there.
func TestNamedTestsExist(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "docs/providers.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z/0-9]+)\\.(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 60 {
		t.Fatalf("only %d tests are named", len(named))
	}
	of := map[string]string{} // the tests' text, by folder
	for _, n := range named {
		folder, test := n[1], n[2]
		if _, ok := of[folder]; !ok {
			files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				of[folder] += string(b)
			}
		}
		if !strings.Contains(of[folder], "func "+test+"(") {
			t.Errorf("%s has no %s", folder, test)
		}
	}
	for _, row := range []string{"B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "C1", "C2", "C3", "C4", "C5",
		"D1", "D2", "D3", "D4", "D5", "E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9"} {
		if !strings.Contains(string(text), "\n| "+row+" ") {
			t.Errorf("row %s is missing", row)
		}
	}
}

// The guide's team file is one.
func TestProvidersExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/providers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	block, _, _ := strings.Cut(rest, "```")
	f, err := teamfile.Parse([]byte("name: team\nplan: pipeline\n"+block), "team.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Team(teamfile.Options{}); err != nil {
		t.Error(err)
	}
	if _, err := provider.NewResolver(provider.Levels{File: f.Level()}); err != nil {
		t.Error(err)
	}
}
