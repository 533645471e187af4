package provider

import (
	"os"
	"testing"
)

func TestAccounts(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ base, key, want string }{
		{"https://api.example.com/v1", "", "https://api.example.com/v1"},
		{"https://u:secret@api.example.com/v1?key=secret", "1a2b3c4d", "https://api.example.com/v1#1a2b3c4d"},
		{"http://127.0.0.1:11434", "", "http://127.0.0.1:11434@" + host},
		{"http://localhost:11434", "", "http://localhost:11434@" + host},
		{"http://[::1]:11434", "", "http://[::1]:11434@" + host},
	} {
		if got := AccountOf(c.base, c.key); got != c.want {
			t.Errorf("%s: %s, want %s", c.base, got, c.want)
		}
	}
}
