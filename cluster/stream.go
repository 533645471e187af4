package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The streams.
const (
	journalStream = "COVEY_JOURNAL"
	taskStream    = "COVEY_TASKS"
)

const (
	// openIn bounds the opening of a stream where ctx has no earlier deadline.
	openIn = 20 * time.Second
	// noneIn is how long nobody may answer for JetStream until there is none.
	noneIn = time.Second
)

func journalConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        journalStream,
		Description: "Covey: the runs' records and their writers' claims",
		Subjects:    []string{messages.SubjectRuns + ".>", messages.SubjectClaims + ".>"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Duplicates:  dedupWindow,
		Replicas:    replicas,
		AllowDirect: true,
	}
}

func taskConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        taskStream,
		Description: "Covey: tasks that wait for a node, or are held by one",
		Subjects:    []string{messages.SubjectTasks + ".>"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.WorkQueuePolicy,
		Duplicates:  dedupWindow,
		Replicas:    replicas,
		AllowDirect: true,
	}
}

// openStream returns the stream of that config, made if it is not there. One
// that is there under other settings is used if nothing can be lost under them
// (its replicas are its operator's matter), else refused with [ErrMisfit]; it is
// never changed.
func openStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, r retrying) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, openIn)
	defer cancel()
	what := "stream " + want.Name
	var s jetstream.Stream
	start := time.Now()
	find := func(ctx context.Context) error {
		return guarded(ctx, js.Conn(), "$JS.API.STREAM.INFO."+want.Name, func(ctx context.Context) (err error) {
			s, err = js.Stream(ctx, want.Name)
			return err
		})
	}
	err := r.retry(ctx, what, func(ctx context.Context) error {
		err := find(ctx)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			err = replicated(want.Replicas, func(replicas int) error {
				want := want
				want.Replicas = replicas
				return made(ctx, js, "$JS.API.STREAM.CREATE."+want.Name, func(ctx context.Context) (err error) {
					s, err = js.CreateStream(ctx, want)
					return err
				})
			})
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				err = settling(find(ctx)) // another node was faster
			}
		}
		if errors.Is(err, nats.ErrNoResponders) && time.Since(start) > noneIn {
			err = jetstream.ErrJetStreamNotEnabled
		}
		if errors.Is(err, jetstream.ErrJetStreamNotEnabled) {
			return classed(err, what)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if bad := misfits(s.CachedInfo().Config, want); len(bad) > 0 {
		return nil, messages.Errorf(messages.Invalid, what, "%w: %s", ErrMisfit, strings.Join(bad, "; "))
	}
	return s, nil
}

// allReplicas is how many servers keep what is made on a cluster.
const allReplicas = 3

// replicated calls create with so many replicas; for 0 with those that the
// servers are good for: 3 on a cluster, else 1. A cluster on which fewer than
// three servers are up is no reason to keep less, for that would stay.
func replicated(replicas int, create func(replicas int) error) error {
	if replicas > 0 {
		return create(replicas)
	}
	err := create(allReplicas)
	switch apiCode(err) {
	case codeNoCluster:
		return create(1)
	case codeNoPeers:
		return fmt.Errorf("%d replicas need as many servers that are up, unless the configuration says another number: %w", allReplicas, err)
	}
	return err
}

// made calls create, for a stream or a bucket that is not there.
func made(ctx context.Context, js jetstream.JetStream, subject string, create func(context.Context) error) error {
	err := guarded(ctx, js.Conn(), subject, create)
	if messages.ClassOf(err) == messages.Unauthorized {
		return messages.Errorf(messages.Unauthorized, subject, "it %w, and these credentials may not make it: no node has been here yet: start one", errNotThere)
	}
	return err
}

// misfits lists the settings of a stream under which records could be lost,
// doubled or not found.
func misfits(have, want jetstream.StreamConfig) []string {
	var bad []string
	must := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Sprintf(format, args...))
		}
	}
	for _, s := range want.Subjects {
		must(slices.Contains(have.Subjects, s), "it lacks the subject %s", s)
	}
	must(have.Storage == want.Storage, "its storage is %v, not %v", have.Storage, want.Storage)
	must(have.Retention == want.Retention, "its retention is %v, not %v", have.Retention, want.Retention)
	must(have.AllowDirect, "it does not allow direct get")
	must(have.Duplicates >= want.Duplicates, "its duplicate window is %v, less than %v", have.Duplicates, want.Duplicates)
	must(have.MaxAge == 0, "it drops messages after %v", have.MaxAge)
	must(have.MaxMsgsPerSubject <= 0, "it keeps only %d messages of a subject", have.MaxMsgsPerSubject)
	drops := have.Discard == jetstream.DiscardOld
	must(have.MaxMsgs <= 0 || !drops, "it drops old messages beyond %d", have.MaxMsgs)
	must(have.MaxBytes <= 0 || !drops, "it drops old messages beyond %d bytes", have.MaxBytes)
	must(!have.NoAck, "it does not acknowledge")
	must(!have.Sealed, "it is sealed")
	must(have.Mirror == nil && have.SubjectTransform == nil, "it mirrors or renames")
	must(have.PersistMode != jetstream.AsyncPersistMode, "it acknowledges before it has written")
	return bad
}

// jetStream returns the handle for nc. It sends nothing.
func jetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, messages.Errorf(messages.Invalid, "jetstream", "%w", err)
	}
	return js, nil
}
