package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats-server/v2/server"
)

func TestConnectErrorsNameTheURLAndKeepTheSecret(t *testing.T) {
	port := freePort(t)
	closed := fmt.Sprintf("127.0.0.1:%d", port)
	guarded, _ := listen(t, t.TempDir(), freePort(t), func(o *server.Options) { o.Username, o.Password = "u", "right" })
	guarded = strings.TrimPrefix(guarded, "nats://")
	for _, c := range []struct {
		name, url string
		class     messages.Class
		words     string
	}{
		{"nobody there", "nats://" + closed, messages.Unavailable, "nats://" + closed},
		{"nobody there, with a password", "nats://u:hunter2@" + closed, messages.Unavailable, "nats://***@" + closed},
		{"nobody there, with a token", "nats://hunter2@" + closed, messages.Unavailable, "nats://***@" + closed},
		{"wrong password", "nats://u:hunter2@" + guarded, messages.Unauthorized, "nats://***@" + guarded},
		{"two of them", "nats://u:hunter2@" + closed + ",nats://hunter2@" + closed, messages.Unavailable, "***@" + closed},
		{"no URL", "nats://u:hunter2%zz@host:4222", messages.Invalid, "nats://***@host:4222"},
		{"no scheme", "u:hunter2@" + closed, messages.Invalid, "***@" + closed},
		{"a secret like a scheme", "hunter2://x@" + closed + ":1", messages.Invalid, "***@"},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			_, err := connect(context.Background(), c.url, "t", connEvents{})
			wantClass(t, err, c.class, c.words)
			if strings.Contains(fmt.Sprintf("%v %+v", err, err), "hunter2") {
				t.Errorf("the secret is in the error: %v", err)
			}
			if d := time.Since(start); d > 2*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func TestNoJetStream(t *testing.T) {
	t.Parallel()
	url, _ := listen(t, "", freePort(t), func(o *server.Options) { o.JetStream = false })
	nc := dialURL(t, url)
	start := time.Now()
	_, err := openJournal(testCtx(t), nc, journalOptions{})
	wantClass(t, err, messages.Invalid, journalStream, "no JetStream")
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("took %v", d)
	}
}
