// Package messages holds the plain data that crosses actors, nodes and the
// journal: tasks, asks, replies, chat messages with tool calls, usage, failure
// classes, events, journal records, the live tree, and the NATS subjects that
// carry them. It imports nothing else of Covey, and nothing in it holds a
// channel, a function or a context: every value survives a wire.
//
// On the wire a message is an [Envelope]: its body as JSON, and headers for the
// ids, the trace context, the kind and the schema version ([Encode], [Decode]).
package messages
