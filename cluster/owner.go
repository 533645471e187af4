package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/covey-run/covey/messages"
)

const (
	ownerName = "covey.owner"
	// maxCommand is how much of an owner's command line is kept, in bytes.
	maxCommand = 200
)

// owner says who holds a data directory. It is a note for people and for
// [dial]; the lock is what counts.
type owner struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Started time.Time `json:"started"`
	// Socket is where the owner answers; empty until it does.
	Socket string `json:"socket,omitempty"`
	// NKey is the path of the seed that is shown there, empty for none.
	NKey string `json:"nkey,omitempty"`
}

func thisProcess() owner {
	c := strings.Join(os.Args, " ")
	if len(c) > maxCommand {
		c = c[:maxCommand] + "…"
	}
	return owner{PID: os.Getpid(), Command: c, Started: time.Now().UTC().Truncate(time.Second)}
}

// writeOwner replaces the note, whole or not at all.
func writeOwner(dir string, o owner) error {
	b, err := json.Marshal(o)
	if err != nil {
		return messages.Errorf(messages.Invalid, "data directory "+dir, "%w", err)
	}
	path := filepath.Join(dir, ownerName)
	tmp := path + ".new"
	if err = os.WriteFile(tmp, append(b, '\n'), 0o600); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return messages.Errorf(messages.Unavailable, "data directory "+dir, "cannot write: %w", err)
	}
	return nil
}

func removeOwner(dir string) { _ = os.Remove(filepath.Join(dir, ownerName)) }

func readOwner(dir string) (owner, error) {
	var o owner
	b, err := os.ReadFile(filepath.Join(dir, ownerName))
	if err == nil {
		err = json.Unmarshal(b, &o)
	}
	return o, err
}

// holder describes the process that holds dir's lock, in words. A note whose
// process is gone is that of an earlier owner: the present one has just started.
func holder(dir string) string {
	o, err := readOwner(dir)
	switch {
	case err == nil && alive(o.PID):
		return fmt.Sprintf("pid %d (%s), since %s", o.PID, o.Command, o.Started.Local().Format(time.DateTime))
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return "a process that is just starting or stopping"
	}
	return fmt.Sprintf("a process that left no readable note (%v)", err)
}

// alive reports whether a process of that id exists.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil || pid <= 0 {
		return false
	}
	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, os.ErrPermission)
}
