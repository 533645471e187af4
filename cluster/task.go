package cluster

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/covey-run/covey/messages"
)

// noSession stands in a task's subject for the session that it does not have.
const noSession = "-"

// ownQueue begins the names of the queues that are for one run alone.
const ownQueue = "run-"

// OwnQueue names a queue for one run alone (see [messages.Task.Queue]): whoever
// serves it takes that run and nothing else.
func OwnQueue(run string) string {
	name := ownQueue + run
	if messages.CheckName("", name) != nil { // too long for a name
		sum := sha256.Sum256([]byte(run))
		name = ownQueue + hex.EncodeToString(sum[:16])
	}
	return name
}

func isOwnQueue(name string) bool { return strings.HasPrefix(name, ownQueue) }

// taskSubject is where a task waits: covey.tasks.<queue>.<priority>.<session>.
func taskSubject(t messages.Task) string {
	return messages.Subject(messages.SubjectTasks, t.QueueName(), t.Priority.String(), sessionToken(t))
}

func sessionToken(t messages.Task) string { return cmp.Or(t.Session, noSession) }

// queueOf is the queue in a task's subject.
func queueOf(subject string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(subject, messages.SubjectTasks+"."), ".")
	return name
}

// checkTask returns an error of class invalid that names the first field of a
// task which cannot be put into a queue.
func checkTask(t messages.Task) error {
	if err := messages.CheckName("task: id", t.ID); err != nil {
		return err
	}
	if err := messages.CheckName("task: team", t.Team); err != nil {
		return err
	}
	if err := t.Priority.Check(); err != nil {
		return messages.Errorf(messages.Invalid, "", "task: %w", err)
	}
	if err := messages.CheckName("task: queue", t.QueueName()); err != nil {
		return err
	}
	switch t.Session {
	case "":
		return nil
	case noSession:
		return messages.Errorf(messages.Invalid, "", "task: session: %q is not allowed: it stands for none", t.Session)
	}
	return messages.CheckName("task: session", t.Session)
}
