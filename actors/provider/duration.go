package provider

import "time"

// Duration is a time.Duration that is text in a file: 250ms, 10s, 1m30s.
type Duration time.Duration

// MarshalText writes the duration as [time.Duration.String] does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what [time.ParseDuration] reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// String is [time.Duration.String].
func (d Duration) String() string { return time.Duration(d).String() }
