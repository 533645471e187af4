package messages

import (
	"encoding/json"
	"time"
)

// Task is a question put to a team. Its ID is the run's id and the
// deduplication key: the same task submitted twice is one run.
type Task struct {
	// ID: 1 to 64 letters, digits, '-' or '_'. Submit fills in an empty one.
	ID string `json:"id"`
	// Team names the team (or single agent) that shall work on it.
	Team string `json:"team"`
	// Prompt is the question.
	Prompt string `json:"prompt"`
	// Format is a JSON schema that the answer's text must satisfy; nil for free
	// text.
	Format json.RawMessage `json:"format,omitempty"`
	// Definition is the team as data, so that a node that never saw it can
	// resume the run; nil where the team exists only in code.
	Definition json.RawMessage `json:"definition,omitempty"`
	// Session names a conversation: 1 to 64 letters, digits, '-' or '_', "" for
	// none. The tasks of one session run one after another, in the order in which
	// they were submitted, on whichever node; different sessions run side by side.
	Session string `json:"session,omitempty"`
	// Discussion is what was said in the session before this task, oldest first.
	// Submit fills it in.
	Discussion []Said `json:"discussion,omitempty"`
	// Priority orders the tasks that wait: see [Priority]. Zero: normal.
	Priority Priority `json:"priority,omitempty"`
	// Queue is where the task waits; a node takes tasks from the queues that it
	// serves. Zero: [DefinedQueue] for a task with a definition, else the queue
	// that has the team's name.
	Queue string `json:"queue,omitempty"`
	// Deadline is when the run fails with class timeout; zero for none.
	Deadline time.Time `json:"deadline,omitzero"`
	// Submitted is when it was first put in.
	Submitted time.Time `json:"submitted,omitzero"`
}

// DefinedQueue is the queue of tasks that bring their team's definition: every
// node that can load definitions serves it.
const DefinedQueue = "defined"

// QueueName is the queue in which the task waits.
func (t Task) QueueName() string {
	switch {
	case t.Queue != "":
		return t.Queue
	case len(t.Definition) > 0:
		return DefinedQueue
	}
	return t.Team
}

// Priority orders the tasks that wait in a queue: one with a higher priority is
// taken before all with a lower one, and tasks of the same priority in the order
// of their submission.
type Priority string

// The priorities.
const (
	High   Priority = "high"
	Normal Priority = "" // the zero value; "normal" on the command line and in subjects
	Low    Priority = "low"
)

// Priorities returns every priority, the highest first.
func Priorities() []Priority { return []Priority{High, Normal, Low} }

// String is the priority in words: "high", "normal" or "low".
func (p Priority) String() string {
	if p == Normal {
		return "normal"
	}
	return string(p)
}

// ParsePriority reads what [Priority.String] writes; "" is normal.
func ParsePriority(s string) (Priority, error) {
	for _, p := range Priorities() {
		if s == string(p) || s == p.String() {
			return p, nil
		}
	}
	return "", Errorf(Invalid, "", "priority: %q is not allowed: use high, normal or low", s)
}

// Check returns an error of class invalid unless p is one of [Priorities].
func (p Priority) Check() error {
	_, err := ParsePriority(string(p))
	return err
}

// Ask is a collaboration message: it asks a member of a run for an answer.
type Ask struct {
	// Step is the ask's key in the plan: the same key asked twice is answered
	// once, from the journal.
	Step string `json:"step"`
	// From and To are the plan's and the member's paths within the run.
	From string `json:"from"`
	To   string `json:"to"`
	// Prompt is the question, Discussion what was said before it, oldest first.
	Prompt     string `json:"prompt"`
	Discussion []Said `json:"discussion,omitempty"`
	// Format is a JSON schema for the answer; nil for free text.
	Format json.RawMessage `json:"format,omitempty"`
}

// Reply answers an [Ask]. Exactly one of Answer and Error is set.
type Reply struct {
	Step   string  `json:"step"`
	From   string  `json:"from"`
	Answer *Answer `json:"answer,omitempty"`
	Error  *Error  `json:"error,omitempty"`
}

// Answer is what a run, a team or an agent comes back with.
type Answer struct {
	// Run is the run that gave it.
	Run string `json:"run,omitempty"`
	// By is the path of the member that gave it, "" for the run itself.
	By string `json:"by,omitempty"`
	// Text is the answer; JSON text where a format was asked for.
	Text string `json:"text"`
	// Usage is what it cost since the run began, before any crash included.
	Usage Usage `json:"usage"`
	// Model is the last model that spoke for it.
	Model string `json:"model,omitempty"`
	// Stop says why that model stopped; StopLength means a cut-off answer.
	Stop StopReason `json:"stop,omitempty"`
	// Origin says where the text came from when it was not simply the first
	// choice's: a fallback, a cache. nil: it was.
	Origin *Origin `json:"origin,omitempty"`
	// Steps counts the run's steps (model replies and tool results), and
	// Journal how many of them were read rather than done in this process.
	Steps   int `json:"steps,omitempty"`
	Journal int `json:"journal,omitempty"`
	// Restarts counts the restarts that the run needed in this process.
	Restarts int `json:"restarts,omitempty"`
}

// Said is one contribution to a run's discussion.
type Said struct {
	// From is the speaker's path within the run.
	From string `json:"from"`
	Text string `json:"text"`
}

// Resolve is a person's word on a tool call that a crash cut off: what it came
// to, or that it never happened. The latter, said while nobody works on the run,
// is a record of the writer: it voids the call's intent.
type Resolve struct {
	Run    string `json:"run"`
	Writer string `json:"writer"`
	Step   string `json:"step"`
	N      int    `json:"n"`
	Call   int    `json:"call"`
	// Output is the call's output, if it took effect; Error says that it failed.
	Output string `json:"output,omitempty"`
	Error  string `json:"error,omitempty"`
	// Retry says that it surely did not happen: call the tool again.
	Retry bool `json:"retry,omitempty"`
}

// Cancel asks whoever owns a run to stop it for good.
type Cancel struct {
	Run    string `json:"run"`
	Reason string `json:"reason,omitempty"`
}
