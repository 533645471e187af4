package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	status := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(status)
}

var built string // the folder of the binary

// binary is the covey command, built once, with the race detector if the tests
// have it.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "covey-test-")
	if err != nil {
		return "", err
	}
	built = dir
	bin := filepath.Join(dir, "covey")
	args := []string{"build", "-o", bin}
	if withRace {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "../../cmd/covey")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// TestChaos breaks clusters of real processes: for COVEY_CHAOS seconds with 50
// runs at a time, or for 15 with 12. COVEY_SEED has a schedule done again.
func TestChaos(t *testing.T) {
	o := Options{For: 15 * time.Second, Runs: 12, Seed: uint64(time.Now().UnixNano() % 1e9)}
	if v := os.Getenv("COVEY_CHAOS"); v != "" {
		seconds, err := strconv.Atoi(v)
		ok(t, err)
		o.For, o.Runs = time.Duration(seconds)*time.Second, 50
	}
	if v := os.Getenv("COVEY_SEED"); v != "" {
		var err error
		o.Seed, err = strconv.ParseUint(v, 10, 64)
		ok(t, err)
	}
	for _, embedded := range []bool{false, true} {
		t.Run(map[bool]string{false: "external", true: "embedded"}[embedded], func(t *testing.T) {
			t.Logf("COVEY_SEED=%d", o.Seed)
			o := o
			o.Embedded = embedded
			chaos(t, o)
		})
	}
}

// chaos runs the kit with its own team.
func chaos(t *testing.T, o Options) {
	t.Helper()
	var err error
	if o.Binary, err = binary(); err != nil {
		t.Fatal(err)
	}
	if o.Dir, err = os.MkdirTemp("", "covey-chaos-"); err != nil {
		t.Fatal(err)
	}
	o.Log = t.Output()
	ctx, cancel := context.WithTimeout(t.Context(), o.For+5*time.Minute)
	defer cancel()
	r, err := Run(ctx, o)
	if err == nil {
		ok(t, r.Print(t.Output()))
	}
	if err == nil && r.OK() {
		ok(t, os.RemoveAll(o.Dir))
		return
	}
	t.Errorf("not everything held (error: %v); logs and data are in %s", err, o.Dir)
	logs, _ := filepath.Glob(filepath.Join(o.Dir, "*.log"))
	for _, l := range logs {
		t.Logf("%s ends:\n%s", l, tail(l, 40))
	}
}

// tail is the end of a log: where this ran, its folder may soon be gone.
func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
