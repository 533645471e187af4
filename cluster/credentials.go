package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/nats-io/nats.go"

	"github.com/covey-run/covey/internal/certs"
	"github.com/covey-run/covey/messages"
)

// Credentials are what a node or a client shows to the NATS servers at a URL.
// The zero value shows nothing, and trusts the system's authorities.
type Credentials struct {
	// NKeyFile is the path of the seed of a user's nkey, which must be closed to
	// others (mode 0600 or stricter). It is read at each connection.
	NKeyFile string
	// CA is a PEM file of the authorities that servers' certificates are checked
	// against; with it a connection without TLS is refused.
	CA string
	// Cert and Key are PEM files of the client's own certificate, for servers that
	// ask for one. Key must be closed to others.
	Cert, Key string
}

// check returns an error of class invalid for what does not fit together. It
// reads no file.
func (c Credentials) check() error {
	if (c.Cert == "") != (c.Key == "") {
		return messages.Errorf(messages.Invalid, "", "config: credentials: cert: %q is not allowed with the key %q: use both or neither", c.Cert, c.Key)
	}
	return nil
}

// options are those of a connection that shows c. Replies to a key come under a
// prefix of its own, which others may not subscribe to.
func (c Credentials) options() ([]nats.Option, error) {
	var opts []nats.Option
	if c.NKeyFile != "" {
		const field = "config: credentials: nkey_file"
		key, err := certs.PublicKey(field, c.NKeyFile)
		if err != nil {
			return nil, err
		}
		o, err := nats.NkeyOptionFromSeed(c.NKeyFile)
		if err != nil {
			return nil, messages.Errorf(messages.Invalid, "", "%s: %q: %w", field, c.NKeyFile, err)
		}
		opts = append(opts, o, nats.CustomInboxPrefix(certs.InboxPrefix(key)))
	}
	if c.CA == "" && c.Cert == "" {
		return opts, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	var err error
	if c.CA != "" {
		if cfg.RootCAs, err = certs.Pool("config: credentials: ca", c.CA); err != nil {
			return nil, err
		}
	}
	if c.Cert != "" {
		pair, err := certs.Pair("config: credentials: cert", c.Cert, c.Key)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return append(opts, nats.Secure(cfg)), nil
}

// distrust returns why a connection came to nothing before a key was asked for,
// nil for other reasons. No such error quotes a credential.
func distrust(err error, shown string) error {
	var bad *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return messages.Errorf(messages.Unauthorized, shown, "the server's certificate is of an authority that is not trusted here: name its CA: %w", err)
	case errors.As(err, &bad):
		return messages.Errorf(messages.Unauthorized, shown, "the server's certificate is refused: %w", err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return messages.Errorf(messages.Unauthorized, shown, "the server offers no TLS, and the credentials ask for it: %w", err)
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return messages.Errorf(messages.Invalid, shown, "the server knows no nkeys: leave the nkey out: %w", err)
	}
	return nil
}
