package main

import (
	"strings"
	"testing"
)

const run1 = `{"Action":"start","Package":"a"}
{"Action":"output","Package":"a","Test":"TestX","Output":"=== RUN\n"}
{"Action":"pass","Package":"a","Test":"TestX"}
{"Action":"output","Package":"a","Test":"TestY/sub","Output":"boom\n"}
{"Action":"fail","Package":"a","Test":"TestY/sub"}
{"Action":"fail","Package":"a","Test":"TestY"}
{"Action":"skip","Package":"a","Test":"TestZ"}
{"Action":"fail","Package":"a"}
{"ImportPath":"b [b.test]","Action":"build-output","Output":"b.go:1: syntax error\n"}
{"ImportPath":"b [b.test]","Action":"build-fail"}
{"Action":"fail","Package":"b","FailedBuild":"b [b.test]"}
{"Action":"skip","Package":"c"}
`

// In the second run TestX fails, TestY passes and TestZ is not skipped.
const run2 = `{"Action":"fail","Package":"a","Test":"TestX"}
{"Action":"pass","Package":"a","Test":"TestY"}
{"Action":"pass","Package":"a","Test":"TestZ"}
{"Action":"fail","Package":"a"}
`

func count(t *testing.T, passed, failed int, runs ...string) (string, int) {
	t.Helper()
	all := &tally{verdict: map[id]string{}, failed: map[id][]string{}}
	for _, r := range runs {
		if err := all.read(strings.NewReader(r)); err != nil {
			t.Fatal(err)
		}
	}
	var b strings.Builder
	status := all.report(&b, passed, failed)
	return b.String(), status
}

func TestCount(t *testing.T) {
	for _, c := range []struct {
		name           string
		passed, failed int
		runs           []string
		want           string
		status         int
	}{
		{"one run", 0, 0, []string{run1}, "1 passed, 3 failed\n", 1},
		{"two runs", 2, 1, []string{run1, run2}, "3 passed, 5 failed\n", 1},
		{"all is well", 3, 0, []string{`{"Action":"pass","Package":"a","Test":"TestX"}`}, "4 passed, 0 failed\n", 0},
		{"no test ran", 3, 0, []string{""}, "3 passed, 0 failed\n", 1},
	} {
		got, status := count(t, c.passed, c.failed, c.runs...)
		if !strings.HasSuffix(got, "\n"+c.want) || status != c.status {
			t.Errorf("%s: status %d, want %d and %q:\n%s", c.name, status, c.status, c.want, got)
		}
	}
	got, _ := count(t, 0, 0, run1)
	for _, want := range []string{"boom", "b.go:1: syntax error", "skipped: a TestZ"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}
