package provider

import (
	"context"
	"sync"
	"time"
)

// sharedContext is the context of a shared call: the first caller's values, the
// callers' latest deadline as it is when asked, and an end when they all left.
// It does not end at the deadline by itself: then its callers leave.
type sharedContext struct {
	values   context.Context
	inner    context.Context
	cancel   context.CancelFunc
	deadline func() (time.Time, bool)

	mu  sync.Mutex
	err error
}

func newSharedContext(first context.Context, deadline func() (time.Time, bool)) *sharedContext {
	c := &sharedContext{values: context.WithoutCancel(first), deadline: deadline}
	c.inner, c.cancel = context.WithCancel(context.Background())
	return c
}

// end ends it with the last caller's reason; nil: canceled.
func (c *sharedContext) end(reason error) {
	if reason == nil {
		reason = context.Canceled
	}
	c.mu.Lock()
	if c.err == nil {
		c.err = reason
	}
	c.mu.Unlock()
	c.cancel()
}

func (c *sharedContext) Deadline() (time.Time, bool) { return c.deadline() }
func (c *sharedContext) Done() <-chan struct{}       { return c.inner.Done() }
func (c *sharedContext) Value(key any) any           { return c.values.Value(key) }

func (c *sharedContext) Err() error {
	if c.inner.Err() == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// AfterFunc lets derived contexts end with this one without a goroutine each.
func (c *sharedContext) AfterFunc(f func()) func() bool { return context.AfterFunc(c.inner, f) }
