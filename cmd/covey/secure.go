package main

import (
	"errors"
	"strings"

	"github.com/spf13/pflag"

	"github.com/covey-run/covey/cluster"
)

// credentialFlags adds what is shown to the servers of --nats.
func (g *global) credentialFlags(f *pflag.FlagSet) {
	f.StringVar(&g.show.NKeyFile, "nkey", "", "file of the nkey seed to show to the servers of --nats; it must be closed to others (mode 0600)")
	f.StringVar(&g.show.CA, "ca", "", "file of the authorities that the servers' certificates are checked against")
	f.StringVar(&g.show.Cert, "cert", "", "file of the certificate to show to the servers, for those that ask for one")
	f.StringVar(&g.show.Key, "key", "", "file of that certificate's key")
}

// checkCredentials returns what is wrong with the flags as they are.
func (g *global) checkCredentials() error {
	switch {
	case g.url == "" && g.show != (cluster.Credentials{}):
		return errors.New("--nkey, --ca, --cert and --key need --nats: they are for its servers")
	case (g.show.Cert == "") != (g.show.Key == ""):
		return errors.New("--cert and --key need one another")
	}
	return nil
}

// shown are the flags of what is shown, for a command line in a message.
func (g *global) shown() string {
	var b strings.Builder
	for _, f := range [][2]string{{"--nkey", g.show.NKeyFile}, {"--ca", g.show.CA}, {"--cert", g.show.Cert}, {"--key", g.show.Key}} {
		if f[1] != "" {
			b.WriteString(" " + f[0] + " " + quote(f[1]))
		}
	}
	return b.String()
}

// quote is a word of a command line as a shell takes it.
func quote(s string) string {
	if strings.ContainsAny(s, " \t\"'$&|;<>()\\*?") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}
