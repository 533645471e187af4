package certs

import (
	"errors"
	"io/fs"
	"os"
	"runtime"

	"github.com/nats-io/nkeys"

	"github.com/covey-run/covey/messages"
)

// CheckPrivate refuses a file of secrets that others than its owner may read or
// write. field names the setting that has the path.
func CheckPrivate(field, path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return messages.Errorf(messages.Invalid, "", "%s: %w", field, err)
	}
	if m := st.Mode().Perm(); m&0o077 != 0 && runtime.GOOS != "windows" { // where modes say nothing
		return messages.Errorf(messages.Invalid, "", "%s: %q is not allowed: its mode is %#o, so that others may reach it: use 0600 or stricter (chmod 600 %s)", field, path, m, path)
	}
	return nil
}

// PublicKey reads a seed file, as CheckPrivate allows it, and returns the user
// key that belongs to it. No error holds anything of the file's text.
func PublicKey(field, path string) (string, error) {
	if err := CheckPrivate(field, path); err != nil {
		return "", err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", messages.Errorf(messages.Invalid, "", "%s: %w", field, err)
	}
	defer clear(data)
	kp, err := nkeys.ParseDecoratedNKey(data)
	if err == nil {
		defer kp.Wipe()
		var key string
		if key, err = kp.PublicKey(); err == nil && nkeys.IsValidPublicUserKey(key) {
			return key, nil
		}
	}
	return "", messages.Errorf(messages.Invalid, "", "%s: %q holds no seed of a user's nkey (SU…): `covey cert init` makes one", field, path)
}

// makeSeed writes a new seed unless the file is there, and returns the public
// key of the one that is.
func makeSeed(path string) (key string, made bool, err error) {
	if _, err := os.Lstat(path); err == nil {
		key, err = PublicKey("cert", path)
		return key, false, err
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", false, failed(path, err)
	}
	kp, err := nkeys.CreateUser()
	if err != nil {
		return "", false, failed(path, err)
	}
	defer kp.Wipe()
	seed, err := kp.Seed()
	if err != nil {
		return "", false, failed(path, err)
	}
	defer clear(seed)
	if key, err = kp.PublicKey(); err != nil {
		return "", false, failed(path, err)
	}
	return key, true, create(path, append(seed, '\n'), 0o600)
}
