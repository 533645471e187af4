package certs

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// writeConf makes the configuration of a nats-server of one's own, with the same
// users and permissions as the embedded one.
func writeConf(dir string, users []User) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return failed(dir, err)
	}
	name := "NAME"
	if i := slices.IndexFunc(users, func(u User) bool { return u.Role == Node }); i >= 0 {
		name = users[i].Name
	}
	var b strings.Builder
	fmt.Fprintf(&b, confHead, strconv.Quote(name), tlsBlock(abs, name, ""))
	for _, u := range users {
		p := Permissions(u)
		fmt.Fprintf(&b, "    { # %s: %s\n      nkey: %s\n      permissions {\n", u.Name, u.Role, u.Key)
		fmt.Fprintf(&b, "        publish { allow: [%s] }\n        subscribe { allow: [%s] }\n", quoted(p.Publish.Allow), quoted(p.Subscribe.Allow))
		if r := p.Response; r != nil {
			fmt.Fprintf(&b, "        allow_responses { max: %d, expires: %q }\n", r.MaxMsgs, r.Expires)
		}
		b.WriteString("      }\n    }\n")
	}
	fmt.Fprintf(&b, confTail, commented(tlsBlock(abs, name, "    verify: true\n    timeout: 5\n")))
	return replace(filepath.Join(dir, ConfFile), []byte(b.String()), 0o644)
}

const confHead = `# A NATS server for Covey: nats-server -c nats.conf
# Made by "covey cert init", and made anew by each further one: copy it, or
# include it, to change something.
#
# Replies go to "_INBOX.<public key>.…": other clients than covey need that as
# their inbox prefix (nats --inbox-prefix).

server_name: %s
listen: "127.0.0.1:4222"
max_payload: 8MB
# A dead or frozen client is noticed within 3 s.
ping_interval: "1s"
ping_max: 2
write_deadline: "10s"

# What is acknowledged survives the death of the process. "sync_interval: always"
# inside the block: a power loss too.
jetstream { store_dir: "./nats-data" }

%s
authorization {
  users = [
`

const confTail = `  ]
}

# For three servers: the same on each, with its own server_name, listen and
# certificate, and
#
#cluster {
#  name: covey
#  listen: "127.0.0.1:6222"
#  routes: ["nats-route://n1:6222", "nats-route://n2:6222", "nats-route://n3:6222"]
%s#}
`

func tlsBlock(dir, name, more string) string {
	return fmt.Sprintf("tls {\n    cert_file: %s\n    key_file: %s\n    ca_file: %s\n%s}\n",
		strconv.Quote(filepath.Join(dir, name+".pem")), strconv.Quote(filepath.Join(dir, name+".key")), strconv.Quote(filepath.Join(dir, CAFile)), more)
}

func commented(block string) string {
	var b strings.Builder
	for line := range strings.Lines(block) {
		b.WriteString("#  " + line)
	}
	return b.String()
}

func quoted(subjects []string) string {
	var q []string
	for _, s := range subjects {
		q = append(q, strconv.Quote(s))
	}
	return strings.Join(q, ", ")
}
