package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
)

const (
	// lastPerGet is how many subjects one get may name; the server's limit is
	// 1,024 messages.
	lastPerGet = 500
	// readers is how many runs are read at once for a list.
	readers = 8
)

// Runs lists every run that has records, oldest first. alive says whether a
// node lives, and is called from several goroutines. A run that cannot be read
// is in the list by its name alone, and in the error, which joins all of them;
// one that only a newer program can read is in the list alone, with the reason.
//
// Of a run that succeeded it reads two records, of any other all.
func (j *journal) Runs(ctx context.Context, alive aliveFunc) ([]messages.RunInfo, error) {
	var subjects map[string]uint64
	err := j.pub.retrying.retryWithin(ctx, listTimeout, "list of runs", func(ctx context.Context) (err error) {
		subjects, err = j.subjects(ctx, messages.SubjectRuns+".>")
		return err
	})
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for s := range subjects {
		if run, _, err := messages.ParseRunSubject(s); err == nil {
			names[run] = true
		}
	}
	l := listing{j: j, alive: alive}
	for run := range names {
		l.runs = append(l.runs, run)
	}
	slices.Sort(l.runs)
	l.infos, l.errs = make([]messages.RunInfo, len(l.runs)), make([]error, len(l.runs))
	if err := l.lastRecords(ctx); err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	for r := range readers {
		wg.Go(func() {
			for i := r; i < len(l.runs); i += readers {
				if l.infos[i], l.errs[i] = l.info(ctx, l.runs[i]); l.infos[i].State == messages.RunNewer {
					l.errs[i] = nil
				}
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, messages.AsError(err, messages.Timeout, "list of runs")
	}
	slices.SortFunc(l.infos, func(a, b messages.RunInfo) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Run, b.Run))
	})
	return l.infos, errors.Join(l.errs...)
}

// Info tells where one run stands. Class invalid: it has no records.
func (j *journal) Info(ctx context.Context, run string, alive aliveFunc) (messages.RunInfo, error) {
	records, err := j.Read(ctx, run)
	if isNewer(err) {
		return j.newer(ctx, run, err), err
	}
	if err != nil {
		return messages.RunInfo{Run: run}, err
	}
	if len(records) == 0 {
		return messages.RunInfo{Run: run}, messages.Errorf(messages.Invalid, "run "+run, "%w", errNoRecords)
	}
	var claims map[string]claimOf
	err = j.pub.retrying.retry(ctx, "run "+run, func(ctx context.Context) (err error) {
		claims, err = j.claims(ctx, run)
		return err
	})
	if isNewer(err) {
		return j.newer(ctx, run, err), err
	}
	if err != nil {
		return messages.RunInfo{Run: run}, err
	}
	return summarize(run, records, claims, alive), nil
}

// newer is the line of a run that only a newer program can read, with what can be
// read of its beginning and of its owner.
func (j *journal) newer(ctx context.Context, run string, why error) messages.RunInfo {
	i := messages.RunInfo{Run: run, State: messages.RunNewer, Error: messages.AsError(why, messages.Unavailable, "run "+run)}
	if e, err := j.first(ctx, run); err == nil {
		i.Started, i.Last = e.Time, e.Time
		if b, ok := e.Body.(*messages.Begun); ok {
			describe(&i, b.Task)
		}
	}
	if e, err := j.last(ctx, messages.Subject(messages.SubjectClaims, run, messages.PlanWriter)); err == nil {
		if c, ok := e.Body.(*messages.Claim); ok {
			i.Node, i.Epoch = c.Node, c.Epoch
		}
	}
	return i
}

// first is the first record of a run's plan.
func (j *journal) first(ctx context.Context, run string) (first messages.Envelope, err error) {
	err = j.pub.retrying.retry(ctx, "run "+run, func(ctx context.Context) error {
		_, err := getBatch(ctx, j.nc, journalStream,
			getRequest{Seq: 1, Next: messages.Subject(messages.SubjectRuns, run, messages.PlanWriter), Batch: 1},
			func(m *nats.Msg, seq uint64) (err error) {
				first, err = decodeRecord(m.Header, m.Data, seq)
				return err
			})
		return err
	})
	return first, err
}

var errNoRecords = errors.New("it has no records")

// claims returns the newest claims of a run, by writer.
func (j *journal) claims(ctx context.Context, run string) (map[string]claimOf, error) {
	claims := map[string]claimOf{}
	_, err := getBatch(ctx, j.nc, journalStream, getRequest{MultiLast: []string{messages.Subject(messages.SubjectClaims, run, ">")}},
		func(m *nats.Msg, seq uint64) error {
			e, err := decodeRecord(m.Header, m.Data, seq)
			if err != nil {
				return err
			}
			c, ok := e.Body.(*messages.Claim)
			if !ok {
				return fmt.Errorf("%w: sequence %d: a %s among the claims", messages.ErrWire, seq, messages.KindOf(e.Body))
			}
			claims[e.Writer] = claimOf{*c, seq}
			return nil
		})
	return claims, err
}

// owner is whoever has claimed a run's plan, by what the stream's leader says; ""
// for nobody.
func (j *journal) owner(ctx context.Context, run string) (owner string, err error) {
	err = j.pub.retrying.retry(ctx, "run "+run, func(ctx context.Context) error {
		e, err := j.last(ctx, messages.Subject(messages.SubjectClaims, run, messages.PlanWriter))
		if c, ok := e.Body.(*messages.Claim); ok {
			owner = messages.Owner(c.Node, c.Epoch)
		}
		return err
	})
	if apiCode(err) == codeNoMessage {
		return "", nil
	}
	return owner, err
}

// listing is one Runs in progress.
type listing struct {
	j     *journal
	alive aliveFunc
	runs  []string
	infos []messages.RunInfo
	errs  []error
	// The plans' newest records and their owners, by run. A record that cannot be
	// read is not there.
	last   map[string]messages.Envelope
	owners map[string]messages.Claim
}

// lastRecords gets the newest record and the newest claim of every plan.
func (l *listing) lastRecords(ctx context.Context) error {
	l.last, l.owners = make(map[string]messages.Envelope, len(l.runs)), make(map[string]messages.Claim, len(l.runs))
	for part := range slices.Chunk(l.runs, lastPerGet) {
		var subjects []string
		for _, run := range part {
			subjects = append(subjects,
				messages.Subject(messages.SubjectRuns, run, messages.PlanWriter),
				messages.Subject(messages.SubjectClaims, run, messages.PlanWriter))
		}
		err := l.j.pub.retrying.retryWithin(ctx, listTimeout, "list of runs", func(ctx context.Context) error {
			_, err := getBatch(ctx, l.j.nc, journalStream, getRequest{MultiLast: subjects, MaxBytes: 4 * batchBytes}, l.note)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *listing) note(m *nats.Msg, seq uint64) error {
	e, err := decodeRecord(m.Header, m.Data, seq)
	if err != nil {
		return nil // reading the whole run will tell
	}
	if c, ok := e.Body.(*messages.Claim); ok {
		l.owners[e.Run] = *c
	} else {
		l.last[e.Run] = e
	}
	return nil
}

// info is the line of one run: from its first and last record if it succeeded,
// for its answer counts the steps; else from all of them.
func (l *listing) info(ctx context.Context, run string) (messages.RunInfo, error) {
	last, ok := l.last[run]
	if _, done := last.Body.(*messages.Done); !ok || !done {
		return l.j.Info(ctx, run, l.alive)
	}
	first, err := l.j.first(ctx, run)
	if isNewer(err) {
		return l.j.newer(ctx, run, err), err
	}
	if err != nil {
		return messages.RunInfo{Run: run}, err
	}
	info := summarize(run, []messages.Envelope{first, last}, nil, l.alive)
	owner := l.owners[run]
	info.Node, info.Epoch, info.Steps = owner.Node, owner.Epoch, info.Answer.Steps
	return info, nil
}
