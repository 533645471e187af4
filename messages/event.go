package messages

import "time"

// EventKind names what happened. Kinds are dotted: house, then verb.
type EventKind string

// The events, by the house that emits them.
const (
	// Supervision. Path is the child, Class and Error its failure.
	ActorStarted     EventKind = "actor.started"
	ActorStopped     EventKind = "actor.stopped"
	ActorFailed      EventKind = "actor.failed"
	ActorBackingOff  EventKind = "actor.backing_off" // Until, Wait and Attempt say until when
	ActorRestarted   EventKind = "actor.restarted"
	ActorResumed     EventKind = "actor.resumed"
	ActorEscalated   EventKind = "actor.escalated"
	ActorQuarantined EventKind = "actor.quarantined"
	ActorStuck       EventKind = "actor.stuck" // would not stop in time

	// Runs. Run is set; Step where one is meant.
	RunStarted     EventKind = "run.started" // Count: the steps read from the journal
	RunEnded       EventKind = "run.ended"
	RunSuspended   EventKind = "run.suspended" // left resumable
	RunWaits       EventKind = "run.waits"     // for a person
	AskSent        EventKind = "ask.sent"
	AskAnswered    EventKind = "ask.answered"
	SaidEvent      EventKind = "said"
	MemberPlaced   EventKind = "member.placed" // Path is the member, Name the node on which it lives now
	MemberMoves    EventKind = "member.moves"  // from the node Name, without having failed
	MemberWaits    EventKind = "member.waits"  // for a node to live on; Text says for which
	TurnParked     EventKind = "turn.parked"   // waits for a provider until Until
	ModelReplied   EventKind = "model.replied"
	ModelChunk     EventKind = "model.chunk" // Text is the piece, Attempt its attempt
	ToolCalled     EventKind = "tool.called"
	ToolReturned   EventKind = "tool.returned"
	StepFromRecord EventKind = "step.from_journal"

	// Providers. Name is the model; Session and Call are the request's where the
	// event is about one call.
	// ProviderCall: a call through a whole stack ended, after Wait and Attempt
	// attempts; Class and Error if it failed, Usage if not.
	ProviderCall EventKind = "provider.call"
	// ProviderAttempt: an attempt at the client ended after Wait; Class and Error
	// if it failed.
	ProviderAttempt EventKind = "provider.attempt"
	// ProviderRetry: Attempt failed; the next follows after Wait.
	ProviderRetry EventKind = "provider.retry"
	// QueueWaited: a call was admitted after Wait; Count are still waiting.
	QueueWaited EventKind = "queue.waited"
	// QueueRefused: the queue was full with Count waiting.
	QueueRefused EventKind = "queue.refused"
	// LimiterWait: a call, or its retry, waits for Wait until its rate limits
	// allow it.
	LimiterWait EventKind = "limiter.wait"
	// LimiterRefused: that wait would have passed the caller's deadline.
	LimiterRefused EventKind = "limiter.refused"
	// CacheHit: a kept reply was given.
	CacheHit EventKind = "cache.hit"
	// FlightJoined: a call shares one that is under way, with Count callers now.
	FlightJoined    EventKind = "flight.joined"
	BreakerOpened   EventKind = "breaker.opened" // until Until
	BreakerHalfOpen EventKind = "breaker.half_open"
	BreakerClosed   EventKind = "breaker.closed"

	// Ladders, outputs and routers. Name is the ladder, output or router.
	// LadderRung: rung Count (from 0) failed with Error; Text is the next rung's
	// name, "" if there is none or the failure ends the chain.
	LadderRung EventKind = "ladder.rung"
	// LadderFallback: rung Count, named Text, answered instead of the first.
	LadderFallback EventKind = "ladder.fallback"
	// CallParked: a call waits for a person; Text is the id under which it does.
	CallParked EventKind = "call.parked"
	// LadderClosed: the unused model of rung Count, named Text, was closed.
	LadderClosed EventKind = "ladder.closed"
	// OutputRepaired: attempt Attempt was refused with Error; Text is what
	// follows after Wait: "repair", "simpler" or "again".
	OutputRepaired EventKind = "output.repaired"
	// HistoryHalved: the conversation was too long; Count messages are left.
	HistoryHalved EventKind = "history.halved"
	// RouteChosen: Text is the choice and why.
	RouteChosen EventKind = "route.chosen"
	// RouteUnsaved: what a router learned could not be saved, for Error.
	RouteUnsaved EventKind = "route.unsaved"

	// Nodes.
	// NodeJoined, NodeLost: a lease begins, or is over. Name is its owner, as
	// [Owner] writes it.
	NodeJoined EventKind = "node.joined"
	NodeLost   EventKind = "node.lost"
	// NodeFenced: the node's own lease is over, for Error; it stops what it works on.
	NodeFenced EventKind = "node.fenced"
	// EventsDropped: a subscriber was too slow; Count events were not delivered.
	EventsDropped EventKind = "events.dropped"
)

// Event is one thing that happened, for people and dashboards. Events are
// best effort and never the truth: the journal is.
type Event struct {
	Kind EventKind `json:"kind"`
	Time time.Time `json:"time"`
	Node string    `json:"node,omitempty"`
	// Path is the actor's path in the supervision tree; in an event of a turn,
	// the member's path within its run ("press/historian").
	Path string `json:"path,omitempty"`
	Run  string `json:"run,omitempty"`
	Step string `json:"step,omitempty"`
	// Session is the conversation that a model call belongs to.
	Session string `json:"session,omitempty"`
	// Call is that call's type: its request's Kind.
	Call string `json:"call,omitempty"`
	// Name is the member, tool or model that the event is about.
	Name string `json:"name,omitempty"`
	// Text is a short human text: a prompt's or an answer's beginning, a chunk.
	Text  string `json:"text,omitempty"`
	Class Class  `json:"class,omitempty"`
	Error *Error `json:"error,omitempty"`
	// Attempt counts from 1: the restart in the window, the try of a call.
	Attempt int           `json:"attempt,omitempty"`
	Wait    time.Duration `json:"wait_ns,omitempty"`
	Until   time.Time     `json:"until,omitzero"`
	Count   int           `json:"count,omitempty"`
	Usage   *Usage        `json:"usage,omitempty"`
}
