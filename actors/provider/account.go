package provider

import (
	"net"
	"net/url"
	"os"
)

// Accounted is a Model that can name the server and the key behind it, the
// secret left out. Models of one account and one name share their breaker's
// openings across nodes; a Model that is not Accounted is known by its name
// alone.
type Accounted interface {
	Account() string
}

// AccountOf names an account: the server at base, a URL, and a fingerprint of
// the key, "" for none. A loopback address is a server of this machine alone,
// so that its name holds the machine's.
func AccountOf(base, key string) string {
	name := base
	if u, err := url.Parse(base); err == nil && u.Host != "" {
		name = u.Scheme + "://" + u.Host + u.Path
		if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) {
			host, _ := os.Hostname()
			name += "@" + host
		}
	}
	if key != "" {
		name += "#" + key
	}
	return name
}
