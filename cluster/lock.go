package cluster

import (
	"os"
	"path/filepath"

	"github.com/covey-run/covey/messages"
	"github.com/gofrs/flock"
)

const lockName = "covey.lock"

// dirLock is the exclusive ownership of a data directory. The kernel releases it
// when its process ends, however that ends.
type dirLock struct {
	dir  string
	file *flock.Flock
}

// lockDir makes dir (mode 0700) if needed, and takes it for this process. If it
// is taken already it fails at once with [ErrInUse], class unavailable, naming
// the owner.
func lockDir(dir string) (*dirLock, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, messages.Errorf(messages.Invalid, "data directory", "%q: %w", dir, err)
	}
	if err := privateDir(dir); err != nil {
		return nil, err
	}
	l := &dirLock{dir: dir, file: flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))}
	got, err := l.file.TryLock()
	switch {
	case err != nil:
		return nil, messages.Errorf(messages.Unavailable, "data directory "+dir, "cannot be locked: %w", err)
	case !got:
		return nil, messages.Errorf(messages.Unavailable, "data directory "+dir,
			"%w by %s; stop it, or use another data directory", ErrInUse, holder(dir))
	}
	if err := writeOwner(dir, thisProcess()); err != nil {
		_ = l.file.Unlock()
		return nil, err
	}
	return l, nil
}

// release gives the directory up.
func (l *dirLock) release() error {
	removeOwner(l.dir)
	if err := l.file.Unlock(); err != nil {
		return messages.Errorf(messages.Unavailable, "data directory "+l.dir, "cannot be unlocked: %w", err)
	}
	return nil
}

// privateDir makes dir for its owner only. A directory that others may look
// into is closed to them if it is empty or already Covey's, and refused if it
// holds something else, whose mode is not ours to change.
func privateDir(dir string) error {
	source := "data directory " + dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return messages.Errorf(messages.Invalid, source, "cannot be made: %w", err)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return messages.Errorf(messages.Invalid, source, "%w", err)
	}
	if st.Mode().Perm()&0o077 == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return messages.Errorf(messages.Invalid, source, "%w", err)
	}
	ours := len(entries) == 0
	for _, e := range entries {
		ours = ours || e.Name() == lockName
	}
	if !ours {
		return messages.Errorf(messages.Invalid, source,
			"is open to other users (mode %04o) and holds other files: use an empty directory, or chmod 700 this one", st.Mode().Perm())
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return messages.Errorf(messages.Invalid, source, "cannot be closed to other users: %w", err)
	}
	return nil
}
