package wiretest_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// guide is docs/wire.md.
type guide struct {
	t    *testing.T
	text string
}

func readGuide(t *testing.T) guide {
	t.Helper()
	b, err := os.ReadFile("../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	return guide{t, string(b)}
}

// section is the text below a heading.
func (g guide) section(heading string) string {
	g.t.Helper()
	_, rest, ok := strings.Cut(g.text, "\n## "+heading+"\n")
	if !ok {
		g.t.Fatalf("docs/wire.md has no section %q", heading)
	}
	s, _, _ := strings.Cut(rest, "\n## ")
	return s
}

// block is the n-th fenced block of a language in a section, from 0.
func (g guide) block(heading, language string, n int) string {
	g.t.Helper()
	blocks := regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(g.section(heading), -1)
	if n >= len(blocks) {
		g.t.Fatalf("section %q has %d blocks of %s", heading, len(blocks), language)
	}
	return blocks[n][1]
}

// command is a command of the nats program, in words as a shell splits them.
func (g guide) command(heading string, n int) []string {
	g.t.Helper()
	text := strings.ReplaceAll(g.block(heading, "sh", n), "\\\n", " ")
	var words []string
	for _, w := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(text, -1) {
		words = append(words, w[1]+w[2])
	}
	if len(words) < 3 || words[0] != "nats" {
		g.t.Fatalf("%q: %q is no command of nats", heading, words)
	}
	return words
}

// message is the one that a command publishes or requests.
func (g guide) message(heading string, n int) *nats.Msg {
	g.t.Helper()
	words := g.command(heading, n)
	m := nats.NewMsg(words[2])
	for i := 3; i < len(words); i++ {
		switch words[i] {
		case "-H":
			i++
			name, value, ok := strings.Cut(words[i], ": ")
			if !ok {
				g.t.Fatalf("%q: %q is no header", heading, words[i])
			}
			m.Header[name] = []string{value} // as it is: Set would change the case
		case "--jetstream":
		default:
			m.Data = []byte(words[i])
		}
	}
	return m
}
