package vendorhttp

import (
	"net/url"
	"os"

	"github.com/covey-run/covey/internal/apikey"
	"github.com/covey-run/covey/messages"
)

// Account says where a vendor's API is, and whose key it gets.
type Account struct {
	// Source is the model, for errors.
	Source string
	// BaseURL, KeyEnv and KeyFile are what was configured; each may be empty.
	BaseURL, KeyEnv, KeyFile string
	// Official is the vendor's own address, BaseEnv the variable that names
	// another one, OfficialEnv that of the vendor's key, which is sent to no
	// address that only the configuration names.
	Official, BaseEnv, OfficialEnv string
	// Example is an address that is allowed, for errors.
	Example string
}

// Open returns the address and the key. It fails with class invalid for an
// address that is none or a key file that others can read, and with class
// unauthorized where a key is needed and there is none.
func (a Account) Open() (base *url.URL, key apikey.Key, official bool, err error) {
	address := a.BaseURL
	if address == "" {
		address = os.Getenv(a.BaseEnv)
	}
	if address == "" {
		address = a.Official
	}
	if !IsAddress(address) {
		return nil, key, false, messages.Errorf(messages.Invalid, a.Source, "variable %s: %q is not allowed: use an address as %q", a.BaseEnv, Redacted(address), a.Example)
	}
	if base, err = url.Parse(address); err != nil {
		return nil, key, false, messages.AsError(err, messages.Invalid, a.Source)
	}
	own, err := url.Parse(a.Official)
	official = err == nil && base.Host == own.Host
	if a.KeyEnv == "" && a.KeyFile == "" && (a.BaseURL == "" || official) {
		a.KeyEnv = a.OfficialEnv
	}
	if key, err = apikey.Read(a.Source, a.KeyEnv, a.KeyFile); err != nil {
		return nil, key, false, err
	}
	if key.Empty() && a.KeyEnv != "" {
		return nil, key, false, messages.Errorf(messages.Unauthorized, a.Source, "no key for %s: set the environment variable %s, or key_file", base.Redacted(), a.KeyEnv)
	}
	return base, key, official, nil
}

// IsAddress reports whether text is an http or https address with a host.
func IsAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}
