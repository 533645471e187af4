//go:build unix

// Package ollamatest runs a private, real Ollama server for a test and gives it
// models: generated ones that play scripts (package tinygguf), or a file.
//
// The server's binary is $OLLAMA_BIN, or what .ci/install-ollama.sh built, or
// "ollama" from PATH. Without one a test is skipped, but fails where CI is set.
package ollamatest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/covey-run/covey/internal/tinygguf"
)

// Version is the server that .ci/install-ollama.sh builds.
const Version = "v0.17.4"

// Server is a running Ollama server with no models, on a loopback port and with
// its files in the test's folder. The test's end stops it and its runners.
type Server struct {
	// URL is its address.
	URL  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has exited
	log  string
}

// Start starts a server, with env ("NAME=value") added to its environment.
func Start(t testing.TB, env ...string) *Server {
	t.Helper()
	bin := binary(t)
	addr := freeAddr(t)
	dir := t.TempDir()
	logf, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer logf.Close()
	s := &Server{URL: "http://" + addr, log: logf.Name(), done: make(chan struct{})}
	s.cmd = exec.Command(bin, "serve")
	s.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + dir, // its key pair and history go there
		"OLLAMA_HOST=" + addr,
		"OLLAMA_MODELS=" + filepath.Join(dir, "models"),
		"OLLAMA_NO_CLOUD=1",
		// A caller that leaves can cost the server a place: when its write fails
		// before it notices, its runner's goroutine blocks for ever. There are enough.
		"OLLAMA_NUM_PARALLEL=8",
		"OLLAMA_CONTEXT_LENGTH=4096",
		"GIN_MODE=release",
	}, env...)
	s.cmd.Stdout, s.cmd.Stderr = logf, logf
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.cmd.Wait(); close(s.done) }()
	t.Cleanup(func() { s.stop(t) })
	s.await(t)
	return s
}

func binary(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv("OLLAMA_BIN"); bin != "" {
		return bin
	}
	cache := os.Getenv("OLLAMA_TEST_DIR")
	if home, err := os.UserHomeDir(); err == nil && cache == "" {
		cache = filepath.Join(home, ".cache", "ollama-test")
	}
	if bin := filepath.Join(cache, Version, "ollama"); isFile(bin) {
		return bin
	}
	if bin, err := exec.LookPath("ollama"); err == nil {
		return bin
	}
	Missing(t, "no ollama binary: run .ci/install-ollama.sh, or set OLLAMA_BIN")
	return ""
}

// Missing skips a test for want of something, and fails it where CI is set.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// TrainedModel returns the path of the trained model that
// .ci/install-models.sh fetches, or $COVEY_TEST_MODEL; it skips the test where
// there is none, as [Missing] does.
func TrainedModel(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("COVEY_TEST_MODEL"); path != "" {
		return path
	}
	cache := os.Getenv("COVEY_TEST_DIR")
	if home, err := os.UserHomeDir(); err == nil && cache == "" {
		cache = filepath.Join(home, ".cache", "covey-test")
	}
	path := filepath.Join(cache, "models", "gemma-3-270m-q4_k_m.gguf")
	if !isFile(path) {
		Missing(t, "no trained model: run .ci/install-models.sh, or set COVEY_TEST_MODEL")
	}
	return path
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// await returns when the server answers: 50 ms as a rule.
func (s *Server) await(t testing.TB) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if r, err := http.Get(s.URL + "/api/version"); err == nil {
			r.Body.Close()
			return
		}
		select {
		case <-s.done:
			t.Fatalf("ollama serve exited:\n%s", s.logTail())
		case <-limit:
			t.Fatalf("ollama serve does not answer at %s:\n%s", s.URL, s.logTail())
		case <-tick.C:
		}
	}
}

func (s *Server) stop(t testing.TB) {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // its group: the runners too
	<-s.done
	if t.Failed() {
		t.Logf("the end of Ollama's log:\n%s", s.logTail())
	}
}

func (s *Server) logTail() []byte {
	b, _ := os.ReadFile(s.log)
	return b[max(0, len(b)-4000):]
}

// KillRunners kills the processes in which this server runs its models, and
// returns how many there were. It needs /proc, and skips the test without.
func (s *Server) KillRunners(t testing.TB) int {
	t.Helper()
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	if len(stats) == 0 {
		t.Skip("no /proc: cannot find the server's runners")
	}
	n := 0
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has gone
		}
		// "pid (name) state ppid …"; the name may hold anything.
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(s.cmd.Process.Pid) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
			n++
		}
	}
	return n
}

// Create builds a model and registers it under name. template is its TEMPLATE
// ([Template], or "" for the one in the file), parameters its PARAMETERs.
func (s *Server) Create(t testing.TB, name string, c tinygguf.Config, template string, parameters map[string]any) {
	t.Helper()
	f, err := tinygguf.Build(c)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := f.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	s.register(t, name, bytes.NewReader(buf.Bytes()), template, parameters)
}

// CreateFromFile registers a GGUF file under name.
func (s *Server) CreateFromFile(t testing.TB, name, path, template string, parameters map[string]any) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s.register(t, name, f, template, parameters)
}

func (s *Server) register(t testing.TB, name string, gguf io.ReadSeeker, template string, parameters map[string]any) {
	t.Helper()
	sum := sha256.New()
	if _, err := io.Copy(sum, gguf); err != nil {
		t.Fatal(err)
	}
	if _, err := gguf.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	digest := fmt.Sprintf("sha256:%x", sum.Sum(nil))
	s.post(t, "/api/blobs/"+digest, io.NopCloser(gguf), nil)

	// More threads than that spin on a barrier when the machine is busy.
	params := map[string]any{"num_thread": 1}
	for k, v := range parameters {
		params[k] = v
	}
	create := map[string]any{
		"model": name, "files": map[string]string{name + ".gguf": digest}, "parameters": params, "stream": false,
	}
	if template != "" {
		create["template"] = template
	}
	body, err := json.Marshal(create)
	if err != nil {
		t.Fatal(err)
	}
	var res struct{ Status string }
	s.post(t, "/api/create", bytes.NewReader(body), &res)
	if res.Status != "success" {
		t.Fatalf("create %s: %+v", name, res)
	}
}

func (s *Server) post(t testing.TB, path string, body io.Reader, out any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 {
		t.Fatalf("%s: %s: %s, %v", path, res.Status, all, err)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(all, out); err != nil {
		t.Fatalf("%s: %v: %s", path, err, all)
	}
}
