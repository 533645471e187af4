package apikey_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/covey-run/covey/internal/apikey"
	"github.com/covey-run/covey/messages"
)

const secret = "sk-a-secret-of-tests"

func TestRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no mode there")
	}
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("P2_KEY", " "+secret+"\n")
	t.Setenv("P2_BAD", secret+"\r\nX-Other: 1")
	for _, tt := range []struct {
		name, env, file string
		key, bad        string
	}{
		{"environment", "P2_KEY", "", secret, ""},
		{"not set", "P2_NONE", "", "", ""},
		{"nothing asked for", "", "", "", ""},
		{"file", "", write("a", secret+"\n", 0o600), secret, ""},
		{"file that its owner only reads", "", write("b", secret, 0o400), secret, ""},
		{"file before environment", "P2_NONE", write("c", secret, 0o600), secret, ""},
		{"file that a group reads", "", write("d", secret, 0o640), "", "mode 0640"},
		{"file that all read", "", write("e", secret, 0o644), "", "mode 0644"},
		{"file that all write", "", write("f", secret, 0o602), "", "mode 0602"},
		{"empty file", "", write("g", "\n", 0o600), "", "empty"},
		{"two lines", "", write("h", secret+"\n"+secret, 0o600), "", "one line"},
		{"huge file", "", write("i", strings.Repeat(secret, 1<<12), 0o600), "", "one line"},
		{"no file", "", filepath.Join(dir, "nothing"), "", "no such file"},
		{"folder", "", dir, "", "regular file"},
		{"header that is two", "P2_BAD", "", "", "P2_BAD"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := apikey.Read("p/m", tt.env, tt.file)
			if tt.bad != "" {
				if messages.ClassOf(err) != messages.Invalid || !strings.Contains(err.Error(), tt.bad) || strings.Contains(err.Error(), secret) {
					t.Errorf("error %v, want class invalid and %q", err, tt.bad)
				}
				return
			}
			if err != nil || k.Reveal() != tt.key || k.Empty() != (tt.key == "") {
				t.Errorf("key %q, error %v", k.Reveal(), err)
			}
		})
	}
}

func TestKeyDoesNotPrint(t *testing.T) {
	t.Setenv("P2_KEY", secret)
	k, err := apikey.Read("p/m", "P2_KEY", "")
	if err != nil {
		t.Fatal(err)
	}
	holder := struct{ K apikey.Key }{k}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("key", "k", k, "holder", holder)
	slog.New(slog.NewTextHandler(&log, nil)).Info("key", "k", k, "holder", holder)
	j, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %q %x %d | %v %+v %#v | %s | %s | %s", k, k, k, k, k, k, k, holder, holder, &holder, j, log.String(), k.Redact("so "+secret+" it is"))
	if strings.Contains(all, secret) || strings.Contains(all, fmt.Sprintf("%x", secret)) || !strings.Contains(all, "so *** it is") {
		t.Error(all)
	}
}
