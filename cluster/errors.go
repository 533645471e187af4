package cluster

import "errors"

var (
	// ErrInUse: another process, or another node of this one, owns the data
	// directory. Nothing was opened. Its class is unavailable.
	ErrInUse = errors.New("in use")
	// ErrMisfit: a stream of the right name exists with settings under which the
	// journal or the queue could lose data. It was left as it is. Its class is
	// invalid.
	ErrMisfit = errors.New("existing stream does not fit")
)
