package provider

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"iter"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// CacheConfig says which replies are kept, and for how long. The zero value
// keeps 1,000 of them for 1 h, in at most 64 MiB, and gives them again to
// requests that are alike in everything that shapes the answer.
type CacheConfig struct {
	// Name is the model: part of what a reply is kept under, and in events.
	Name string
	// Size is how many replies are kept; the least recently used go first. Zero:
	// 1000.
	Size int
	// TTL is for how long. Zero: 1 h.
	TTL time.Duration
	// Bytes is how much memory they may take in all, about. Zero: 64 MiB. A reply
	// that is larger alone is not kept.
	Bytes int64
	// Idempotent makes [Request.Key] name an operation: requests with the same
	// key get the same reply, whatever they hold, and requests without one are
	// not kept.
	Idempotent bool
	// Clock says what is too old. nil: the real one.
	Clock clockwork.Clock
	// Observe hears of each hit ([messages.CacheHit]). It must not block. nil:
	// nobody.
	Observe func(messages.Event)
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c CacheConfig) Check() error {
	switch {
	case c.Size < 0 || c.Size > 10_000_000:
		return badField("cache", "size", c.Size, "1 to 10000000, or 0 for 1000")
	case c.TTL < 0:
		return badField("cache", "ttl", c.TTL, "a positive duration, or 0 for 1h")
	case c.Bytes < 0:
		return badField("cache", "bytes", c.Bytes, "a positive number, or 0 for 64 MiB")
	}
	return nil
}

// Cache keeps whole, successful replies and gives them again. What is kept
// depends on the model, messages, tools, format and options of the request; not
// on its Kind, Session or Priority. A reply that was cut off, filtered, or given
// up by its reader is not kept. A hit comes as chunks like any other reply; the
// last has [messages.Origin].Cached and no usage, for it cost nothing.
//
// Nothing expires by itself: what is too old goes when it is met, or when the
// cache is full. (The expirable cache of the same library has a goroutine that
// cannot be stopped, and no clock of its own.)
type Cache struct {
	cfg CacheConfig

	mu    sync.Mutex // guards the rest
	lru   *simplelru.LRU[string, *kept]
	bytes int64
}

// kept is a reply in a cache. It is not changed.
type kept struct {
	reply Reply
	until time.Time
	bytes int64
}

// NewCache returns an empty cache. It fails only with cfg's Check.
func NewCache(cfg CacheConfig) (*Cache, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Size == 0 {
		cfg.Size = 1000
	}
	if cfg.TTL == 0 {
		cfg.TTL = time.Hour
	}
	if cfg.Bytes == 0 {
		cfg.Bytes = 64 << 20
	}
	if cfg.Clock == nil {
		cfg.Clock = clockwork.NewRealClock()
	}
	c := &Cache{cfg: cfg}
	var err error
	c.lru, err = simplelru.NewLRU(cfg.Size, func(_ string, k *kept) { c.bytes -= k.bytes })
	return c, err
}

// Len returns how many replies are kept, and Bytes how much memory they take,
// about. Both count what is too old and was not met yet.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lru.Len()
}

// Bytes is described at Len.
func (c *Cache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// Purge forgets every reply.
func (c *Cache) Purge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Purge()
}

// Wrap is a [Middleware].
func (c *Cache) Wrap(m Model) Model {
	return Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
		return func(yield func(Chunk, error) bool) {
			id := c.identity(req)
			if err := ctx.Err(); err != nil {
				yield(Chunk{}, messages.AsError(err, messages.Canceled, c.cfg.Name))
				return
			}
			if !c.hit(req, id, yield) {
				c.record(ctx, m, req, id, yield)
			}
		}
	})
}

// identity is what a request's reply is kept under, "" if it is not.
func (c *Cache) identity(req *Request) string {
	if !c.cfg.Idempotent {
		return contentKey(c.cfg.Name, req)
	}
	if req.Key == "" {
		return ""
	}
	return c.cfg.Name + "\x00" + req.Key
}

// contentKey is the hash of everything that shapes an answer, as JSON whose
// fields stand in one order and whose raw parts are compact; "" where a part is
// no JSON.
func contentKey(model string, req *Request) string {
	h := sha256.New()
	err := json.NewEncoder(h).Encode(struct {
		Model    string              `json:"model"`
		Messages []messages.Message  `json:"messages"`
		Tools    []messages.ToolSpec `json:"tools,omitempty"`
		Format   json.RawMessage     `json:"format,omitempty"`
		Options  Options             `json:"options"`
	}{model, req.Messages, req.Tools, req.Format, req.Options})
	if err != nil {
		return ""
	}
	return string(h.Sum(nil))
}

// hit plays a kept reply and returns true, or returns false.
func (c *Cache) hit(req *Request, id string, yield func(Chunk, error) bool) bool {
	if id == "" || req.Fresh {
		return false
	}
	r, ok := c.get(id)
	if !ok {
		return false
	}
	if c.cfg.Observe != nil {
		c.cfg.Observe(about(req, messages.Event{Kind: messages.CacheHit, Time: c.cfg.Clock.Now(), Name: c.cfg.Name}))
	}
	play(r, yield)
	return true
}

// play yields a reply as a hit.
func play(r *Reply, yield func(Chunk, error) bool) {
	var origin messages.Origin
	if r.Origin != nil {
		origin = *r.Origin
	}
	origin.Cached = true
	if m := &r.Message; m.Content != "" || m.Thinking != "" || len(m.ToolCalls) > 0 {
		if !yield(Chunk{Text: m.Content, Thinking: m.Thinking, ThinkingRaw: m.ThinkingRaw, ToolCalls: m.ToolCalls, Attempt: 1}, nil) {
			return
		}
	}
	yield(Chunk{Attempt: 1, Stop: r.Stop, Model: r.Model, Origin: &origin}, nil)
}

func (c *Cache) get(id string) (*Reply, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.lru.Get(id)
	if !ok {
		return nil, false
	}
	if !c.cfg.Clock.Now().Before(k.until) {
		c.lru.Remove(id)
		return nil, false
	}
	return &k.reply, true
}

// record makes the call and keeps its reply.
func (c *Cache) record(ctx context.Context, m Model, req *Request, id string, yield func(Chunk, error) bool) {
	if id == "" {
		m.Stream(ctx, req)(yield)
		return
	}
	left := false
	r, err := Collect(func(see func(Chunk, error) bool) {
		m.Stream(ctx, req)(func(chunk Chunk, err error) bool {
			more := see(chunk, err)
			left = !yield(chunk, err)
			return more && !left
		})
	}, nil)
	if err == nil && (r.Stop == messages.StopEnd || r.Stop == messages.StopTools) {
		c.put(id, r)
	}
}

func (c *Cache) put(id string, r *Reply) {
	const overhead = 512 // of the entry, the reply and its place in the maps
	k := &kept{reply: *r, bytes: int64(overhead + len(id) + len(r.Message.Content) + len(r.Message.Thinking) + len(r.Model))}
	for _, call := range r.Message.ToolCalls {
		k.bytes += int64(64 + len(call.ID) + len(call.Name) + len(call.Arguments))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Remove(id) // Add does not report what it replaces
	if k.bytes > c.cfg.Bytes {
		return
	}
	k.until = c.cfg.Clock.Now().Add(c.cfg.TTL)
	c.bytes += k.bytes
	c.lru.Add(id, k)
	for c.bytes > c.cfg.Bytes {
		c.lru.RemoveOldest()
	}
}
