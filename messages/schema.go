package messages

import (
	_ "embed"
	"slices"
)

// SchemaID is the address of the messages' schema.
const SchemaID = "https://raw.githubusercontent.com/covey-run/covey/main/messages/schema.json"

//go:embed schema.json
var schema []byte

// Schema returns the JSON schema (draft 2020-12) of every kind of body: of an
// object whose one member is the kind and its body.
func Schema() []byte { return slices.Clone(schema) }
