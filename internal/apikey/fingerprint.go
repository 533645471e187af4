package apikey

import (
	"crypto/sha256"
	"encoding/hex"
)

// Fingerprint tells keys apart without telling them: 8 hexadecimal digits, ""
// for no key.
func (k Key) Fingerprint() string {
	if k.secret == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("covey key " + k.secret))
	return hex.EncodeToString(sum[:4])
}
