package messages

import "time"

// State is what an actor is doing, as its supervisor sees it.
type State string

// The states of an actor.
const (
	Starting    State = "starting"
	Idle        State = "idle"
	Running     State = "running"
	Parked      State = "parked"      // waits for a provider, a timer or a person
	BackingOff  State = "backing off" // restarts at Until
	Quarantined State = "quarantined" // answers every ask with an error
	StoppingNow State = "stopping"
	Stopped     State = "stopped"
	// Unresponsive: it did not answer within the snapshot's deadline.
	Unresponsive State = "unresponsive"
)

// TreeNode is one actor in a snapshot of the live supervision tree.
type TreeNode struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	State State  `json:"state"`
	// Since is when the actor's present incarnation started.
	Since time.Time `json:"since,omitzero"`
	// Restarts counts restarts within the policy's window, Total all of them.
	Restarts int `json:"restarts"`
	Total    int `json:"restarts_total"`
	// LastFailure is the newest failure, and when.
	LastFailure *Error    `json:"last_failure,omitempty"`
	FailedAt    time.Time `json:"failed_at,omitzero"`
	// Until is when a backoff or a park ends.
	Until time.Time `json:"until,omitzero"`
	// Mailbox is the number of messages that wait.
	Mailbox int `json:"mailbox"`
	// Step is what it works on, in words.
	Step string `json:"step,omitempty"`
	// Detail is anything else worth a column: a model, a breaker's state.
	Detail   map[string]string `json:"detail,omitempty"`
	Children []TreeNode        `json:"children,omitempty"`
}

// Status is what an actor says of itself when a snapshot asks.
type Status struct {
	State  State
	Step   string
	Until  time.Time
	Detail map[string]string
}
