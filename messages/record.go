package messages

import (
	"encoding/json"
	"time"
)

// The journal's records, in the order in which a run writes them. Each is the
// body of an [Envelope] that names the run, the writer and the step.
type (
	// Claim says that a node owns a writer from here on. Every append names the
	// sequence of the claim that it writes under, so an older owner is refused.
	Claim struct {
		Node string `json:"node"`
		// Epoch is that of the node's lease, 0 for a node that has none. A node of
		// the same name with another epoch is another owner.
		Epoch uint64 `json:"epoch,omitempty"`
		// Ack is the subject that answers the task's delivery to that node; a
		// survivor hands the task on by a NAK there. Only in the plan's claim.
		Ack string `json:"ack,omitempty"`
	}

	// Begun is a run's first record: its task, team definition included.
	Begun struct {
		Task Task `json:"task"`
	}

	// Asked: the plan asks a member. Written before the ask is sent.
	Asked struct {
		Ask Ask `json:"ask"`
	}

	// Modeled is a model's reply within an agent's turn.
	Modeled struct {
		// N counts the model calls of the step from 0.
		N       int        `json:"n"`
		Model   string     `json:"model"`
		Message Message    `json:"message"`
		Usage   Usage      `json:"usage"`
		Stop    StopReason `json:"stop"`
		Origin  *Origin    `json:"origin,omitempty"`
	}

	// Intent: a tool is about to be called. No tool runs without one.
	Intent struct {
		// N and Call say which tool call of which model reply this is.
		N    int      `json:"n"`
		Call int      `json:"call"`
		Tool ToolCall `json:"tool"`
		// Effect is the tool's declared effect.
		Effect Effect `json:"effect"`
		// Key is the idempotency key that the tool receives.
		Key string `json:"key"`
	}

	// Result: what a tool call came to. Exactly one of Output and Error counts;
	// an empty output is an output.
	Result struct {
		N      int    `json:"n"`
		Call   int    `json:"call"`
		Output string `json:"output"`
		Error  *Error `json:"error,omitempty"`
		// By is who settled it: "tool", "verify" (the tool's hook) or "person".
		By string `json:"by"`
	}

	// Answered: a member's answer to a step, or the failure that ended it.
	Answered struct {
		Reply Reply `json:"reply"`
	}

	// Spoken: a contribution to the discussion that is not an answer.
	Spoken struct {
		Said Said `json:"said"`
	}

	// Decided: a value that the plan may not compute twice (a clock, a die).
	Decided struct {
		Name  string          `json:"name"`
		Value json.RawMessage `json:"value"`
	}

	// Timer: the plan waits until a moment, across crashes.
	Timer struct {
		Until time.Time `json:"until"`
	}

	// Done is the last record of a run that succeeded.
	Done struct {
		Answer Answer `json:"answer"`
	}

	// Failed is the last record of a run that did not, unless a person reopens
	// it.
	Failed struct {
		Error *Error `json:"error"`
	}

	// Reopened: a person has a failed run go on. It voids the failure, and every
	// member's failed answer that no later record of a plan was built on.
	Reopened struct {
		By string `json:"by,omitempty"`
	}
)

// Effect says what calling a tool twice would do, which decides what happens to
// a call that a crash cut off.
type Effect string

const (
	// Unsafe, the zero value: calling twice may do harm. After a crash the
	// tool's Verify hook decides; without one the run waits for a person.
	Unsafe Effect = ""
	// Pure: calling has no effect; it is called again.
	Pure Effect = "pure"
	// Idempotent: two calls with the same key have the effect of one; it is
	// called again with the same key.
	Idempotent Effect = "idempotent"
)

// RunState is where a run stands, by its records and its owner.
type RunState string

const (
	// RunQueued: the task waits for a node.
	RunQueued RunState = "queued"
	// RunRunning: a live node owns it.
	RunRunning RunState = "running"
	// RunInterrupted: it has records, no last one, and no live owner.
	RunInterrupted RunState = "interrupted"
	// RunWaiting: a person must settle a tool call that a crash cut off.
	RunWaiting RunState = "waiting"
	// RunNewer: its task, or one of its records, is of a version or a kind that
	// this program does not know; its Error says which.
	RunNewer RunState = "newer"
	// RunDone and RunFailed: it ended.
	RunDone   RunState = "done"
	RunFailed RunState = "failed"
)

// RunInfo is one line of a list of runs.
type RunInfo struct {
	Run    string   `json:"run"`
	Team   string   `json:"team"`
	Prompt string   `json:"prompt"`
	State  RunState `json:"state"`
	// Session, Priority and Queue are the task's.
	Session  string   `json:"session,omitempty"`
	Priority Priority `json:"priority,omitempty"`
	Queue    string   `json:"queue,omitempty"`
	// Node is the last owner, and Epoch that of its lease, 0 for none.
	Node  string `json:"node,omitempty"`
	Epoch uint64 `json:"epoch,omitempty"`
	// Placed are the nodes of those members that live, or lived last, on another
	// node than the owner, by the members' paths.
	Placed  map[string]string `json:"placed,omitempty"`
	Started time.Time         `json:"started"`
	// Last is the time of the newest record.
	Last time.Time `json:"last"`
	// Steps counts model replies and tool results in the journal.
	Steps int `json:"steps"`
	// Answer or Error is set once the run has ended; Error also for [RunNewer].
	Answer *Answer `json:"answer,omitempty"`
	Error  *Error  `json:"error,omitempty"`
	// Unsettled are tool calls with an intent and no result.
	Unsettled []Unsettled `json:"unsettled,omitempty"`
}

// Unsettled is a tool call that was begun and has no result.
type Unsettled struct {
	Writer string `json:"writer"`
	Step   string `json:"step"`
	Intent Intent `json:"intent"`
}
