// Command count reads what `go test -json` printed, from the files that it is
// given, and prints how many tests passed and failed. A test that was run more
// than once counts once, and as failed if any run failed. A package that failed
// without a failing test (it did not build, or its process died) counts as one
// failure. What failed is printed with its output; what was skipped, by name.
//
//	count [-checks-passed n] [-checks-failed n] file…
//
// Checks that are no tests are added to the last line, "N passed, N failed". The
// exit status is 1 if anything failed, or if no test ran at all.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action     string
	Package    string
	ImportPath string // of build events
	Test       string
	Output     string
}

type id struct{ pkg, test string }

type tally struct {
	verdict map[id]string // pass, skip or fail
	output  map[id][]string
	failed  map[id][]string // the output of the run that failed
}

// rank orders verdicts: the highest of a test's runs counts.
var rank = map[string]int{"skip": 1, "pass": 2, "fail": 3}

func main() {
	passed := flag.Int("checks-passed", 0, "checks that passed")
	failed := flag.Int("checks-failed", 0, "checks that failed")
	flag.Parse()
	t := &tally{verdict: map[id]string{}, failed: map[id][]string{}}
	for _, name := range flag.Args() {
		f, err := os.Open(name)
		if err == nil {
			err = t.read(f)
			f.Close()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "count:", err)
			os.Exit(2)
		}
	}
	os.Exit(t.report(os.Stdout, *passed, *failed))
}

// read adds one run. Lines that are no JSON are a build's own words.
func (t *tally) read(r io.Reader) error {
	t.output = map[id][]string{}
	broken := map[string]bool{} // packages with a failing test in this run
	var ends []event
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			t.output[id{}] = append(t.output[id{}], lines.Text()+"\n")
			continue
		}
		pkg, _, _ := strings.Cut(e.Package, " ")
		at := id{pkg, e.Test}
		switch e.Action {
		case "output":
			t.output[at] = append(t.output[at], e.Output)
		case "build-output":
			pkg, _, _ = strings.Cut(e.ImportPath, " ")
			t.output[id{pkg, ""}] = append(t.output[id{pkg, ""}], e.Output)
		case "pass", "fail", "skip":
			if e.Test == "" {
				ends = append(ends, e)
				continue
			}
			broken[pkg] = broken[pkg] || e.Action == "fail"
			t.note(at, e.Action)
		}
	}
	for _, e := range ends {
		if e.Action == "fail" && !broken[e.Package] {
			t.note(id{e.Package, ""}, "fail")
		}
	}
	return lines.Err()
}

func (t *tally) note(at id, verdict string) {
	if rank[verdict] > rank[t.verdict[at]] {
		t.verdict[at] = verdict
	}
	if verdict == "fail" {
		t.failed[at] = append(t.failed[at], t.output[at]...)
	}
}

func (t *tally) report(w io.Writer, checksPassed, checksFailed int) int {
	ids := slices.SortedFunc(maps.Keys(t.verdict), func(a, b id) int {
		return strings.Compare(a.pkg+" "+a.test, b.pkg+" "+b.test)
	})
	count := map[string]int{}
	for _, at := range ids {
		verdict := t.verdict[at]
		count[verdict]++
		switch verdict {
		case "fail":
			fmt.Fprintf(w, "\nFAILED: %s %s\n%s", at.pkg, at.test, strings.Join(t.failed[at], ""))
		case "skip":
			fmt.Fprintf(w, "skipped: %s %s\n", at.pkg, at.test)
		}
	}
	fmt.Fprintf(w, "tests: %d passed, %d failed, %d skipped; checks: %d passed, %d failed\n",
		count["pass"], count["fail"], count["skip"], checksPassed, checksFailed)
	fmt.Fprintf(w, "%d passed, %d failed\n", count["pass"]+checksPassed, count["fail"]+checksFailed)
	if count["fail"]+checksFailed > 0 || count["pass"] == 0 {
		return 1
	}
	return 0
}
