// Package apikey reads the secrets of model providers, from the environment or
// from a file that only its owner can read, and keeps them out of what is
// printed.
package apikey

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/covey-run/covey/messages"
)

// Key is a secret. It prints as "***" under every verb, in logs and in JSON; the
// zero value is no key.
type Key struct{ secret string }

// hidden is what a key looks like.
const hidden = "***"

// Format prints no secret.
func (k Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, k.String()) }

// String is "***", or "" for no key.
func (k Key) String() string {
	if k.secret == "" {
		return ""
	}
	return hidden
}

// MarshalText prints no secret, in JSON and in slog.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Empty reports whether there is no key.
func (k Key) Empty() bool { return k.secret == "" }

// Reveal returns the secret. Only a request's header is made of it.
func (k Key) Reveal() string { return k.secret }

// Redact returns text without the key, should a server have sent it back.
func (k Key) Redact(text string) string {
	if len(k.secret) < 4 {
		return text
	}
	return strings.ReplaceAll(text, k.secret, hidden)
}

// most is the longest key, in bytes.
const most = 16 << 10

// Read returns the key in file, or, when file is "", the value of the
// environment variable env. A variable that is not set is no key and no error. A
// file must be a regular one that nobody but its owner can touch (mode 0600 or
// 0400); anything else is an error of class invalid that names the mode. Space
// around a key is dropped; a key that no header can carry is class invalid. No
// error holds the key or a part of it.
func Read(source, env, file string) (Key, error) {
	if file != "" {
		return readFile(source, file)
	}
	if env == "" {
		return Key{}, nil
	}
	return clean(source, "key_env: variable "+env, os.Getenv(env))
}

func readFile(source, path string) (Key, error) {
	invalid := func(format string, args ...any) error {
		return messages.Errorf(messages.Invalid, source, "config: key_file: "+format, args...)
	}
	info, err := os.Stat(path) // before it is opened: that of a pipe would block
	if err != nil {
		return Key{}, invalid("%w", err)
	}
	if !info.Mode().IsRegular() {
		return Key{}, invalid("%s: a %v is not allowed: use a regular file of mode 0600", path, info.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return Key{}, invalid("%w", err)
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return Key{}, invalid("%w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return Key{}, invalid("%s: mode %04o is not allowed, others than its owner can touch it: use 0600 (chmod 600 %s)", path, mode, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return Key{}, invalid("%w", err)
	}
	k, err := clean(source, "key_file: "+path, string(b))
	if err == nil && k.Empty() {
		err = invalid("%s: it is empty: use one line with the key", path)
	}
	return k, err
}

// errKey says what a key must be, without saying what it is.
var errKey = errors.New("what it holds is not allowed: use one line of at most 16384 printable ASCII characters without spaces")

func clean(source, where, value string) (Key, error) {
	value = strings.TrimSpace(value)
	bad := strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f })
	if bad || len(value) > most {
		return Key{}, messages.Errorf(messages.Invalid, source, "config: %s: %w", where, errKey)
	}
	return Key{value}, nil
}
