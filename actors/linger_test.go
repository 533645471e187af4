package actors

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// What a turn has paid for waits for a journal that is away, for as long as the
// turn lasts, and a while longer.
func TestLingering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(context.WithValue(context.Background(), t, "kept"))
		out, cancel := lingering(ctx, 5*time.Second)
		defer cancel()
		time.Sleep(time.Hour)
		if out.Err() != nil || out.Value(t) != "kept" {
			t.Fatal("it ended before its context", out.Err())
		}
		end()
		time.Sleep(4 * time.Second)
		if out.Err() != nil {
			t.Fatal("it ended at once")
		}
		time.Sleep(2 * time.Second)
		if out.Err() == nil {
			t.Fatal("it does not end")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(context.Background())
		out, cancel := lingering(ctx, 5*time.Second)
		end()
		cancel()
		<-out.Done() // and nothing is left of it, or the bubble panics
	})
}
