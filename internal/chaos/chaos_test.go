package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
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

// tail is the end of a log: where this ran, its folder may soon be gone.
func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
