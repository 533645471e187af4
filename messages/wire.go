package messages

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Version is the schema version of everything that this package writes. A
// decoder refuses a higher one with [ErrVersion].
const Version = 1

// The headers of a message on the wire. Header names are case-sensitive on
// NATS.
const (
	HeaderVersion = "Covey-Version"
	HeaderKind    = "Covey-Kind"
	HeaderRun     = "Covey-Run"
	HeaderWriter  = "Covey-Writer"
	HeaderStep    = "Covey-Step"
	HeaderTime    = "Covey-Time" // RFC 3339, nanoseconds, UTC
	// HeaderTrace is the W3C trace context, https://www.w3.org/TR/trace-context/.
	HeaderTrace = "traceparent"
	// HeaderID is JetStream's deduplication header.
	HeaderID = "Nats-Msg-Id"
)

var (
	// ErrVersion: the message is of a newer schema version than this program
	// knows. Nothing was decoded; leave the message to a newer node.
	ErrVersion = errors.New("messages: unknown schema version")
	// ErrKind: the message is of a kind that this program does not know.
	ErrKind = errors.New("messages: unknown kind")
	// ErrWire: the message is not one of Covey's, or damaged.
	ErrWire = errors.New("messages: malformed")
)

// Body is what an envelope carries: a pointer to one of the types that Kinds
// lists.
type Body any

// Envelope is one message on the wire or in the journal.
type Envelope struct {
	// ID deduplicates an append; empty for a message that is not journalled.
	ID string
	// Run, Writer and Step say where a journal record belongs.
	Run, Writer, Step string
	// Time is when it was made.
	Time time.Time
	// Trace is the W3C traceparent, "" for none.
	Trace string
	// Seq is the record's place in the journal, 0 before it is there. It is not
	// on the wire.
	Seq uint64
	// Body is a pointer to the message itself.
	Body Body
}

var bodies = map[string]reflect.Type{}
var kinds = map[reflect.Type]string{}

func register[T any](kind string) {
	t := reflect.TypeFor[T]()
	bodies[kind], kinds[t] = t, kind
}

func init() {
	register[Task]("task")
	register[Ask]("ask")
	register[Reply]("reply")
	register[Cancel]("cancel")
	register[Event]("event")
	register[TreeNode]("tree")
	register[Claim]("claim")
	register[Begun]("begun")
	register[Asked]("asked")
	register[Modeled]("model")
	register[Intent]("intent")
	register[Result]("result")
	register[Answered]("answered")
	register[Spoken]("said")
	register[Decided]("decided")
	register[Timer]("timer")
	register[Done]("done")
	register[Failed]("failed")
	register[Reopened]("reopened")
	register[Resolve]("resolve")
	register[NodeInfo]("node")
	register[Place]("place")
	register[Gone]("gone")
}

// Kinds returns the names of every kind of body, sorted.
func Kinds() []string {
	var ks []string
	for k := range bodies {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}

// KindOf returns the wire name of a body, "" for a type that is none.
func KindOf(b Body) string {
	t := reflect.TypeOf(b)
	if t == nil || t.Kind() != reflect.Pointer {
		return ""
	}
	return kinds[t.Elem()]
}

// Encode returns the headers and the data of e. It fails with [ErrKind] for a
// body that is not a pointer to a registered type, and with [ErrWire] for an id
// or a time that no header can carry.
func Encode(e Envelope) (map[string][]string, []byte, error) {
	kind := KindOf(e.Body)
	if kind == "" {
		return nil, nil, fmt.Errorf("%w: body of type %T", ErrKind, e.Body)
	}
	data, err := json.Marshal(e.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", ErrWire, kind, err)
	}
	h := map[string][]string{HeaderVersion: {strconv.Itoa(Version)}, HeaderKind: {kind}}
	for _, f := range []struct{ name, value string }{
		{HeaderID, e.ID}, {HeaderRun, e.Run}, {HeaderWriter, e.Writer}, {HeaderStep, e.Step}, {HeaderTrace, e.Trace},
	} {
		if strings.ContainsAny(f.value, "\r\n") || strings.TrimSpace(f.value) != f.value {
			return nil, nil, fmt.Errorf("%w: header %s holds a line break, or white space at an end: %q", ErrWire, f.name, f.value)
		}
		if f.value != "" {
			h[f.name] = []string{f.value}
		}
	}
	if !e.Time.IsZero() {
		if y := e.Time.UTC().Year(); y < 0 || y > 9999 {
			return nil, nil, fmt.Errorf("%w: header %s: the year %d has not four digits", ErrWire, HeaderTime, y)
		}
		h[HeaderTime] = []string{e.Time.UTC().Format(time.RFC3339Nano)}
	}
	return h, data, nil
}

// Decode reads what [Encode] wrote. A newer version gives [ErrVersion], a kind
// that is not known [ErrKind], anything else that does not fit [ErrWire]; each
// says what it met. Unknown fields in a body are ignored: a field may be added
// within a version.
func Decode(h map[string][]string, data []byte) (Envelope, error) {
	get := func(k string) string {
		if v := h[k]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	v, err := strconv.Atoi(get(HeaderVersion))
	switch {
	case err != nil || v < 1:
		return Envelope{}, fmt.Errorf("%w: header %s is %q, not a version", ErrWire, HeaderVersion, get(HeaderVersion))
	case v > Version:
		return Envelope{}, fmt.Errorf("%w: %d, this program knows up to %d", ErrVersion, v, Version)
	}
	kind := get(HeaderKind)
	t, ok := bodies[kind]
	if !ok {
		return Envelope{}, fmt.Errorf("%w: %q, known are %s", ErrKind, kind, strings.Join(Kinds(), ", "))
	}
	e := Envelope{ID: get(HeaderID), Run: get(HeaderRun), Writer: get(HeaderWriter), Step: get(HeaderStep), Trace: get(HeaderTrace)}
	if s := get(HeaderTime); s != "" {
		if e.Time, err = time.Parse(time.RFC3339Nano, s); err != nil {
			return Envelope{}, fmt.Errorf("%w: header %s: %w", ErrWire, HeaderTime, err)
		}
	}
	body := reflect.New(t).Interface()
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return Envelope{}, fmt.Errorf("%w: %s: %.40q is no object", ErrWire, kind, data)
	}
	if err := json.Unmarshal(data, body); err != nil {
		return Envelope{}, fmt.Errorf("%w: %s: %w", ErrWire, kind, err)
	}
	e.Body = body
	return e, nil
}
