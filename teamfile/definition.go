package teamfile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"

	"github.com/covey-run/covey/messages"
)

// definitionVersion is the version of the JSON that Definition writes.
const definitionVersion = 1

type definition struct {
	Version int             `json:"covey_team"`
	Dir     string          `json:"dir,omitempty"`
	File    json.RawMessage `json:"file"`
}

// Definition returns the whole file as JSON: the same bytes for the same
// content, however the YAML was written. It goes into a run's first record, so
// that another process makes the same team of it with [ParseDefinition]. The
// folder of relative commands is in it, absolute. It fails with class invalid
// for a file, made in code, that could not be read back.
func (f File) Definition() (json.RawMessage, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return nil, messages.Errorf(messages.Invalid, "team definition", "%w", err)
	}
	if _, err := decode(text, f.Dir, f.src); err != nil {
		return nil, err
	}
	dir := f.Dir
	if dir != "" {
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, messages.Errorf(messages.Invalid, "team definition", "%w", err)
		}
	}
	return json.Marshal(definition{Version: definitionVersion, Dir: dir, File: text})
}

// ParseDefinition gives back the file that [File.Definition] was called on. It
// checks it as [Parse] does.
func ParseDefinition(data json.RawMessage) (File, error) {
	src := &source{name: "team definition"}
	if len(data) > 2*maxFile {
		return File{}, src.fault(nil, "%d bytes are not allowed: use at most %d", len(data), 2*maxFile)
	}
	var d definition
	if err := json.Unmarshal(data, &d); err != nil {
		return File{}, src.fault(nil, "not JSON: %w", err)
	}
	if d.Version != definitionVersion {
		return File{}, src.fault(nil, "covey_team: version %d is not allowed: this program knows %d", d.Version, definitionVersion)
	}
	return decode(d.File, d.Dir, src)
}

// Digest names the file's content: "sha256:" and the hash of its definition. ""
// where there is no definition.
func (f File) Digest() string {
	d, err := f.Definition()
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(d)
	return "sha256:" + hex.EncodeToString(sum[:])
}
