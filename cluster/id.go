package cluster

import (
	"crypto/rand"
	"strings"
)

// NewID makes an id for a run: 12 lower-case letters and digits that are hard to
// mix up, 60 random bits.
func NewID() string { return strings.ToLower(rand.Text()[:12]) }
