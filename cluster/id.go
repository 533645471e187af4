package cluster

import (
	"crypto/rand"
	"strings"
)

// newID makes an id for a run or a node: 12 lower-case letters and digits that
// are hard to mix up, 60 bits.
func newID() string { return strings.ToLower(rand.Text()[:12]) }
