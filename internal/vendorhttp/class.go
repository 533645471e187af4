package vendorhttp

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"

	"github.com/covey-run/covey/messages"
)

// Rule gives a class to the failures that match it. A zero field matches
// everything.
type Rule struct {
	// Status is the HTTP status; below 10 it is the first digit of one: 4 is any
	// from 400 to 499. A failure inside a stream has the status 200.
	Status int
	// Code is the vendor's error code or type.
	Code string
	// Text is a part of what the server says.
	Text string
	// Class is what it is.
	Class messages.Class
}

// Table is all of what a client knows of failures. The first rule that matches
// counts.
type Table []Rule

// Class returns the class of a failure that a server named. codes are the
// vendor's code and type, where it has both. What no rule matches is transient.
func (t Table) Class(status int, text string, codes ...string) messages.Class {
	for _, r := range t {
		if r.Status != 0 && r.Status != status && r.Status != status/100 || !strings.Contains(text, r.Text) {
			continue
		}
		if r.Code == "" {
			return r.Class
		}
		for _, c := range codes {
			if c == r.Code {
				return r.Class
			}
		}
	}
	return messages.Transient
}

// Statuses are the rules that every table ends with: what an HTTP status alone
// says.
var Statuses = Table{
	{Status: 401, Class: messages.Unauthorized},
	{Status: 403, Class: messages.Unauthorized},
	{Status: 402, Class: messages.Quota},
	{Status: 408, Class: messages.Timeout},
	{Status: 409, Class: messages.Transient}, // another call was in the way
	{Status: 413, Class: messages.ContextLength},
	{Status: 425, Class: messages.Transient}, // too early
	{Status: 429, Class: messages.Throttled},
	{Status: 499, Class: messages.Transient}, // the server thinks that the caller left, who did not
	{Status: 4, Class: messages.Invalid},
	{Status: 501, Class: messages.Invalid},
	{Status: 504, Class: messages.Timeout},
	{Status: 524, Class: messages.Timeout}, // a proxy's
	{Status: 529, Class: messages.Throttled},
	{Status: 5, Class: messages.Transient},
}

// ClassOfTransport returns the class of a request that got no answer. Almost
// all of it may pass (refused, reset, no such host); a certificate does not.
func ClassOfTransport(err error) messages.Class {
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var network net.Error
	switch {
	case errors.As(err, &cert), errors.As(err, &record):
		return messages.Invalid
	case errors.As(err, &network) && network.Timeout():
		return messages.Timeout
	}
	return messages.Transient
}
