package teamfile

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/covey-run/covey/internal/misfit"
	"github.com/covey-run/covey/messages"
)

// Load reads and checks a team file. A file that cannot be read is an error of
// class invalid that wraps the cause.
func Load(path string) (File, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFile {
		return File{}, messages.Errorf(messages.Invalid, path, "a file of %d bytes is not allowed: use at most %d", info.Size(), maxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return File{}, messages.Errorf(messages.Invalid, "", "team file: %w", err)
	}
	return Parse(data, path)
}

// Parse reads and checks a team file's text. name is the file's, for errors and
// for its folder, in which its commands run.
func Parse(data []byte, name string) (File, error) {
	src := &source{name: name}
	root, err := parseYAML(data)
	if err != nil {
		return File{}, src.syntax(err)
	}
	src.root = root
	text, err := json.Marshal(root.plain())
	if err != nil {
		return File{}, src.fault(nil, "%w", err)
	}
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return File{}, src.fault(nil, "%w", err)
	}
	return decode(text, dir, src)
}

// decode reads the JSON form of a file.
func decode(text []byte, dir string, src *source) (File, error) {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return File{}, src.fault(nil, "not JSON: %w", err)
	}
	schema := format().resolved
	if verdict := schema.Validate(value); verdict != nil {
		if f, ok := misfit.Find(schema.Schema(), value); ok {
			return File{}, src.misfit(f)
		}
		return File{}, src.fault(nil, "%s", misfit.Cut(verdict.Error(), 400))
	}
	f := File{Dir: dir, src: src}
	if err := json.Unmarshal(text, &f); err != nil {
		return File{}, src.fault(nil, "%w", err)
	}
	return f, f.Check()
}
