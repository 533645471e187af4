package provider

import (
	"encoding/json"

	"github.com/covey-run/covey/messages"
)

// Settings are everything that can be set of a provider, of a type of call, or
// of one call. What is nil is not given here. The zero value gives nothing.
//
// Each section may also be switched: On false is an explicit off, which beats
// whatever any level says; On true is on with its defaults, which beats what the
// levels below say of the section, and is beaten by the values of its own level
// and those above. A section with values is on. In JSON and YAML a section is a
// mapping, or the word on or off, or a bool. [Levels] says which level beats
// which.
type Settings struct {
	// Queue, Limits, Breaker, Adaptive and Prices belong to a provider's model:
	// all its callers share them, and only a provider's settings may have them.
	Queue    *QueueSettings    `json:"queue,omitempty" jsonschema:"how many calls run at once, and wait"`
	Limits   *LimitSettings    `json:"limits,omitempty" jsonschema:"how many requests and tokens a minute the provider takes; off if not given"`
	Breaker  *BreakerSettings  `json:"breaker,omitempty" jsonschema:"when calls to a failing provider stop for a while"`
	Adaptive *AdaptiveSettings `json:"adaptive,omitempty" jsonschema:"retries fit themselves to how calls go: fewer and shorter in good times, one more and longer in bad ones; off if not given"`
	Prices   map[string]Price  `json:"prices,omitempty" jsonschema:"what its models cost, by model, in dollars per million tokens"`

	Cache    *CacheSettings    `json:"cache,omitempty" jsonschema:"keeps replies and gives them again for the same call; off if not given"`
	Retry    *RetrySettings    `json:"retry,omitempty" jsonschema:"how a failed call is made again"`
	Output   *OutputSettings   `json:"output,omitempty" jsonschema:"answers are read and judged, those that cannot be used are shown to the model for repair, and then the fallback takes over; off if not given"`
	Fallback *FallbackSettings `json:"fallback,omitempty" jsonschema:"what answers when the model does not: models, canned, parked (a person); up to 9 below the first; none if not given"`
}

// QueueSettings are those of a [QueueConfig].
type QueueSettings struct {
	On          *bool     `json:"on,omitempty" jsonschema:"false: no limit at all"`
	Concurrency *int      `json:"concurrency,omitempty" range:"1:1000000" default:"5" jsonschema:"how many calls run at once; 5 if not given"`
	Waiting     *int      `json:"waiting,omitempty" range:"0:1000000" default:"1000" jsonschema:"how many more may wait; 1000 if not given"`
	AgeEvery    *Duration `json:"age_every,omitempty" range:"1ms:24h" default:"10s" jsonschema:"how long a call waits for each step by which its priority rises; 10s if not given"`
}

// LimitSettings are those of a [LimiterConfig].
type LimitSettings struct {
	On                *bool `json:"on,omitempty" jsonschema:"false: none"`
	RequestsPerMinute *int  `json:"requests_per_minute,omitempty" range:"1:1000000000" default:"none" jsonschema:"attempts a minute, retries included; no limit if not given"`
	RequestBurst      *int  `json:"request_burst,omitempty" range:"1:1000000000" default:"a tenth" jsonschema:"how many of them may come at once after a pause; a tenth if not given"`
	TokensPerMinute   *int  `json:"tokens_per_minute,omitempty" range:"1:1000000000" default:"none" jsonschema:"tokens a minute, in and out; no limit if not given"`
	TokenBurst        *int  `json:"token_burst,omitempty" range:"1:1000000000" default:"half" jsonschema:"how many of them may be spent at once after a pause; half if not given"`
}

// CacheSettings are those of a [CacheConfig].
type CacheSettings struct {
	On         *bool     `json:"on,omitempty" jsonschema:"true: with the defaults"`
	Size       *int      `json:"size,omitempty" range:"1:10000000" default:"1000" jsonschema:"how many replies are kept; 1000 if not given"`
	TTL        *Duration `json:"ttl,omitempty" range:"1ms:8760h" default:"1h" jsonschema:"for how long; 1h if not given"`
	Bytes      *int      `json:"bytes,omitempty" range:"1:1099511627776" default:"67108864" jsonschema:"how many bytes they take in all; 64 MiB if not given"`
	Idempotent *bool     `json:"idempotent,omitempty" default:"false" jsonschema:"a call's key (run, member, step) names it, whatever it holds: the same operation gives the same reply"`
}

// BreakerSettings are those of a [BreakerConfig].
type BreakerSettings struct {
	On        *bool            `json:"on,omitempty" jsonschema:"false: none"`
	Failures  *int             `json:"failures,omitempty" range:"1:1048576" default:"5" jsonschema:"how many calls must fail to open it, of which each that succeeds forgives one; 5 if not given"`
	OpenFor   *Duration        `json:"open_for,omitempty" range:"1ms:24h" default:"1m" jsonschema:"how long it then refuses calls; 1m if not given"`
	Successes *int             `json:"successes,omitempty" range:"1:1048576" default:"3" jsonschema:"how many probes must succeed to close it; 3 if not given"`
	Classes   []messages.Class `json:"classes,omitempty" default:"all but the caller's own" jsonschema:"the classes of failure that count"`
}

// RetrySettings are those of a [RetryConfig].
type RetrySettings struct {
	On             *bool                      `json:"on,omitempty" jsonschema:"false: one attempt"`
	Attempts       *int                       `json:"attempts,omitempty" range:"1:100" default:"4" jsonschema:"in all, the first included; 4 if not given, 1 for no retry"`
	Initial        *Duration                  `json:"initial,omitempty" range:"1ns:24h" default:"1s" jsonschema:"the first wait; 1s if not given"`
	Factor         *float64                   `json:"factor,omitempty" range:"1:1000" default:"2" jsonschema:"from one wait to the next; 2 if not given"`
	Spread         *Spread                    `json:"spread,omitempty" default:"band" jsonschema:"how jitter is drawn: band (1-jitter to 1+jitter times the wait), full (from nothing to the wait), equal (from half the wait to the wait) or add (the wait and up to the first wait more); band if not given"`
	Jitter         *float64                   `json:"jitter,omitempty" range:"0:1" default:"0.5" jsonschema:"the share by which a wait varies; 0.5 if not given"`
	Max            *Duration                  `json:"max,omitempty" range:"1ns:24h" default:"1m" jsonschema:"the longest wait, one that the server asks for included; 1m if not given"`
	Total          *Duration                  `json:"total,omitempty" range:"1ns:24h" default:"2m" jsonschema:"the longest sum of waits; 2m if not given"`
	AttemptTimeout *Duration                  `json:"attempt_timeout,omitempty" range:"1ns:24h" default:"none" jsonschema:"bounds one attempt; not bounded if not given"`
	Classes        []messages.Class           `json:"classes,omitempty" default:"transient, throttled, timeout" jsonschema:"the classes of failure that are tried again"`
	Longer         map[messages.Class]float64 `json:"longer,omitempty" default:"throttled: 2" jsonschema:"what multiplies the wait after a failure of a class; 2 for throttled if not given"`
}

// AdaptiveSettings are those of an [AdaptiveConfig].
type AdaptiveSettings struct {
	On     *bool    `json:"on,omitempty" jsonschema:"true: with the defaults"`
	Window *int     `json:"window,omitempty" range:"1:100000" default:"100" jsonschema:"over how many calls; 100 if not given"`
	High   *float64 `json:"high,omitempty" range:"0:1" default:"0.9" jsonschema:"the share of successes above which retries are fewer and shorter; 0.9 if not given"`
	Low    *float64 `json:"low,omitempty" range:"0:1" default:"0.7" jsonschema:"the share below which there is one more, and longer; 0.7 if not given"`
}

// OutputSettings are those of an [OutputConfig]. What the answer must be is the
// request's Format; without one, a text that is not empty.
type OutputSettings struct {
	On       *bool    `json:"on,omitempty" jsonschema:"true: with the defaults"`
	Attempts *int     `json:"attempts,omitempty" range:"1:100" default:"4" jsonschema:"calls in all, the first included; 4 if not given"`
	Repairs  *int     `json:"repairs,omitempty" range:"0:100" default:"2" jsonschema:"how many refused answers are shown to the model for repair; the attempts after those ask more simply; 2 if not given"`
	Required []string `json:"required,omitempty" default:"none" jsonschema:"fields that the JSON object must have"`
	AllowRaw *bool    `json:"allow_raw,omitempty" default:"false" jsonschema:"takes free text where no JSON can be used"`
}

// FallbackSettings are the rungs below the first of a [Ladder]. In JSON and YAML
// they may be the list of rungs alone.
type FallbackSettings struct {
	On *bool `json:"on,omitempty" jsonschema:"false: none"`
	// Rungs are models, or "canned", "parked", or the name of a rule that a
	// program registered as "rule:NAME".
	Rungs []string `json:"rungs,omitempty" default:"none" jsonschema:"in their order: a model as ollama/llama3.2, canned, parked, or rule:NAME for a rule of the program's"`
	// Canned are the texts of the rung "canned", by the call's kind; that of ""
	// is for every other kind.
	Canned map[string]string `json:"canned,omitempty" jsonschema:"the texts of the rung canned, by type of call; that of default is for every other type"`
}

// Price is what a model costs, in dollars per million tokens. Cached nil: as
// Input.
type Price struct {
	Input  float64  `json:"input" jsonschema:"of input tokens"`
	Output float64  `json:"output" jsonschema:"of output tokens"`
	Cached *float64 `json:"cached,omitempty" jsonschema:"of input tokens that the provider had cached; as input if not given"`
}

// short reads a section that may also be a bool, or the word on or off.
func short(b []byte, on **bool, long any) error {
	switch string(b) {
	case `true`, `"on"`:
		*on = new(true)
		return nil
	case `false`, `"off"`:
		*on = new(false)
		return nil
	}
	return json.Unmarshal(b, long)
}

// UnmarshalJSON reads the section, or its switch.
func (s *QueueSettings) UnmarshalJSON(b []byte) error {
	type plain QueueSettings
	return short(b, &s.On, (*plain)(s))
}

// UnmarshalJSON reads the section, or its switch.
func (s *LimitSettings) UnmarshalJSON(b []byte) error {
	type plain LimitSettings
	return short(b, &s.On, (*plain)(s))
}

// UnmarshalJSON reads the section, or its switch.
func (s *CacheSettings) UnmarshalJSON(b []byte) error {
	type plain CacheSettings
	return short(b, &s.On, (*plain)(s))
}

// UnmarshalJSON reads the section, or its switch.
func (s *BreakerSettings) UnmarshalJSON(b []byte) error {
	type plain BreakerSettings
	return short(b, &s.On, (*plain)(s))
}

// UnmarshalJSON reads the section, or its switch.
func (s *RetrySettings) UnmarshalJSON(b []byte) error {
	type plain RetrySettings
	return short(b, &s.On, (*plain)(s))
}

// UnmarshalJSON reads the section, or its switch.
func (s *AdaptiveSettings) UnmarshalJSON(b []byte) error {
	type plain AdaptiveSettings
	return short(b, &s.On, (*plain)(s))
}

// UnmarshalJSON reads the section, or its switch.
func (s *OutputSettings) UnmarshalJSON(b []byte) error {
	type plain OutputSettings
	return short(b, &s.On, (*plain)(s))
}

// UnmarshalJSON reads the section, its switch, or the list of rungs alone.
func (s *FallbackSettings) UnmarshalJSON(b []byte) error {
	type plain FallbackSettings
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, &s.Rungs)
	}
	return short(b, &s.On, (*plain)(s))
}
