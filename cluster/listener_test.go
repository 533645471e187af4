package cluster

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/covey-run/covey/messages"
)

// Somebody who listens to everything does not keep a run that nobody works on from
// being canceled.
func TestCancelBesideAListener(t *testing.T) {
	t.Parallel()
	ctx := testCtx(t)
	url, _ := listen(t, t.TempDir(), freePort(t))
	spy := dialURL(t, url)
	must(spy.Subscribe("covey.>", func(*nats.Msg) {}))(t)
	ok(t, spy.Flush())
	k := must(Open(ctx, Config{URL: url}))(t)
	t.Cleanup(k.Close)
	must(k.Submit(ctx, task("t")))(t)
	ok(t, k.Cancel(ctx, "t", "no"))
	i, err := k.Run(ctx, "t")
	ok(t, err)
	if i.State != messages.RunFailed || i.Error.Class != messages.Canceled {
		t.Errorf("%+v", i)
	}
}
