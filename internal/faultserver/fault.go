package faultserver

import (
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Fault is a way to fail.
type Fault struct {
	Name  string
	serve func(*exchange)
}

// Status answers with an error of a status, in the vendor's shape, and with
// headers (name, value, ...).
func Status(code int, headers ...string) Fault {
	return Fault{http.StatusText(code), func(x *exchange) {
		x.w.Header().Set("Content-Type", "application/json")
		for i := 0; i+1 < len(headers); i += 2 {
			x.w.Header().Set(headers[i], headers[i+1])
		}
		x.w.WriteHeader(code)
		x.send(x.d.refusal(code, "something is the matter"))
	}}
}

// ThrottledUntil is a 429 whose Retry-After is the date that is in from now, give
// or take half a second: such a date has none.
func ThrottledUntil(in time.Duration) Fault {
	return Fault{"429 with a date", func(x *exchange) {
		Status(429, "Retry-After", time.Now().Add(in+500*time.Millisecond).UTC().Format(http.TimeFormat)).serve(x)
	}}
}

// Raw answers with a status, a media type and a body.
func Raw(code int, contentType, body string) Fault {
	return Fault{"raw", func(x *exchange) {
		x.w.Header().Set("Content-Type", contentType)
		x.w.WriteHeader(code)
		x.send(body)
	}}
}

// The faults that need no settings.
var (
	// Reset breaks the connection before any answer.
	Reset = Fault{"reset", func(x *exchange) {
		conn, _, err := http.NewResponseController(x.w).Hijack()
		if err != nil {
			panic(err)
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // an RST, not a FIN
		}
		_ = conn.Close()
	}}
	// NoAnswer holds the caller before the first byte.
	NoAnswer = Fault{"slow first byte", (*exchange).hold}
	// NoBody sends the headers of an answer and holds the caller.
	NoBody = Fault{"slow first piece", func(x *exchange) {
		x.begin()
		x.send("")
		x.hold()
	}}
	// Stalls holds the caller in mid-stream.
	Stalls = Fault{"stalls", func(x *exchange) {
		x.half()
		x.hold()
	}}
	// Drip sends small pieces and never comes to an end.
	Drip = Fault{"slow drip", func(x *exchange) {
		x.begin()
		x.send(x.d.start())
		x.drip(func(int) string { return x.d.text(".") })
	}}
	// SlowError sends an error's status, and its body never ends.
	SlowError = Fault{"an error that drips", func(x *exchange) {
		x.w.WriteHeader(500)
		x.drip(func(int) string { return "x" })
	}}
	// Cut breaks the connection in mid-stream.
	Cut = Fault{"cut in mid-stream", func(x *exchange) {
		x.half()
		panic(http.ErrAbortHandler)
	}}
	// CutAtStart breaks it before the first piece.
	CutAtStart = Fault{"cut before the first piece", func(x *exchange) {
		x.begin()
		x.send("")
		panic(http.ErrAbortHandler)
	}}
	// Unfinished ends the answer cleanly, before its last part.
	Unfinished = Fault{"no end", (*exchange).half}
	// Empty is an answer without a body.
	Empty = Fault{"no body", (*exchange).begin}
	// Garbled has a piece that is no JSON, WrongTypes one of other types, Failed
	// an error, all after two good ones.
	Garbled    = Fault{"malformed JSON", func(x *exchange) { x.half(); x.send(x.d.broken) }}
	WrongTypes = Fault{"wrong types", func(x *exchange) { x.half(); x.send(x.d.wrong) }}
	Failed     = Fault{"an error in the stream", func(x *exchange) { x.half(); x.send(x.d.failed) }}
	// HugeLine is a line without an end, HugeBody an answer without one, HugeError
	// an error's body without one.
	HugeLine = Fault{"huge line", func(x *exchange) {
		x.half()
		x.flood(x.d.frame, strings.Repeat("x", 64<<10))
	}}
	HugeBody = Fault{"huge body", func(x *exchange) {
		x.begin()
		x.flood(x.d.start(), x.d.text(strings.Repeat("x", 64<<10)))
	}}
	HugeError = Fault{"huge error", func(x *exchange) {
		x.w.WriteHeader(500)
		x.flood("", strings.Repeat("x", 64<<10))
	}}
	// Elsewhere points to another server.
	Elsewhere = Fault{"redirect", func(x *exchange) {
		http.Redirect(x.w, x.r, "http://127.0.0.1:9/elsewhere", http.StatusTemporaryRedirect)
	}}
)

// half sends the beginning of a good answer: two texts.
func (x *exchange) half() {
	x.begin()
	parts := x.parts()
	for _, part := range parts[:min(3, len(parts))] {
		x.send(part)
	}
}

// flood sends first, and then part until the caller leaves.
func (x *exchange) flood(first, part string) {
	_, err := io.WriteString(x.w, first)
	for err == nil {
		select {
		case <-x.r.Context().Done():
			return
		case <-x.s.gone:
			return
		default:
			_, err = io.WriteString(x.w, part)
		}
	}
}
