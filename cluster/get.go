package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// getRequest asks for stored messages: https://docs.nats.io, ADR-31.
type getRequest struct {
	Seq       uint64   `json:"seq,omitempty"`
	Last      string   `json:"last_by_subj,omitempty"`
	Next      string   `json:"next_by_subj,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
}

// stored is a message in a stream.
type stored struct {
	header nats.Header
	data   []byte
	seq    uint64
}

// getFromLeader gets one message from a stream's leader, so that everything
// acknowledged is seen. No such message is API error 10037.
func getFromLeader(ctx context.Context, nc *nats.Conn, stream string, req getRequest) (stored, error) {
	var resp struct {
		Message struct {
			Seq    uint64 `json:"seq"`
			Header []byte `json:"hdrs"`
			Data   []byte `json:"data"`
		} `json:"message"`
	}
	if err := askAPI(ctx, nc, "$JS.API.STREAM.MSG.GET."+stream, req, &resp); err != nil {
		return stored{}, err
	}
	m := stored{data: resp.Message.Data, seq: resp.Message.Seq}
	if len(resp.Message.Header) > 0 {
		h, err := nats.DecodeHeadersMsg(resp.Message.Header)
		if err != nil {
			return stored{}, fmt.Errorf("%w: sequence %d: %w", messages.ErrWire, m.seq, err)
		}
		m.header = h
	}
	return m, nil
}

// deleteMsg deletes a message from a stream; one that is not there is deleted.
func deleteMsg(ctx context.Context, nc *nats.Conn, stream string, seq uint64) error {
	req := struct {
		Seq     uint64 `json:"seq"`
		NoErase bool   `json:"no_erase"`
	}{seq, true}
	err := askAPI(ctx, nc, "$JS.API.STREAM.MSG.DELETE."+stream, req, nil)
	if c := apiCode(err); c == codeNoSequence || c == codeNotDeleted {
		if _, err := getFromLeader(ctx, nc, stream, getRequest{Seq: seq}); apiCode(err) == codeNoMessage {
			return nil
		}
	}
	return err
}

// askAPI makes one request of JetStream, whose own error it returns as an
// [jetstream.APIError]. resp may be nil.
func askAPI(ctx context.Context, nc *nats.Conn, subject string, req, resp any) error {
	b, err := json.Marshal(req)
	if err != nil {
		return err
	}
	var r *nats.Msg
	err = guarded(ctx, nc, subject, func(ctx context.Context) (err error) {
		r, err = nc.RequestWithContext(ctx, subject, b)
		return err
	})
	if err != nil {
		return err
	}
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(r.Data, &failed); err != nil {
		return err
	}
	if failed.Error != nil {
		return failed.Error
	}
	if resp == nil {
		return nil
	}
	return json.Unmarshal(r.Data, resp)
}

// getFromLeader gets one record from the journal's leader.
func (j *journal) getFromLeader(ctx context.Context, req getRequest) (messages.Envelope, error) {
	m, err := getFromLeader(ctx, j.nc, journalStream, req)
	if err != nil {
		return messages.Envelope{}, err
	}
	return decodeRecord(m.header, m.data, m.seq)
}

// last returns the newest message of a subject, from the leader.
func (j *journal) last(ctx context.Context, subject string) (messages.Envelope, error) {
	return j.getFromLeader(ctx, getRequest{Last: subject})
}

// find looks for a message id on a subject from a sequence on, at the leader.
func (j *journal) find(ctx context.Context, subject string, from uint64, id string) (uint64, bool, error) {
	for {
		e, err := j.getFromLeader(ctx, getRequest{Seq: from, Next: subject})
		switch {
		case apiCode(err) == codeNoMessage:
			return 0, false, nil
		case err != nil:
			return 0, false, err
		case e.ID == id:
			return e.Seq, true, nil
		}
		from = e.Seq + 1
	}
}

// batchIdle bounds the wait for a batch's next message.
const batchIdle = 2 * time.Second

// getBatch calls each with the stored messages that req asks for, in the
// stream's order, and returns how many there were. Any replica answers, so what
// was acknowledged last may be missing on a cluster.
func getBatch(ctx context.Context, nc *nats.Conn, stream string, req getRequest, each func(m *nats.Msg, seq uint64) error) (n int, err error) {
	subject := "$JS.API.DIRECT.GET." + stream
	err = guarded(ctx, nc, subject, func(ctx context.Context) (err error) {
		n, err = getAll(ctx, nc, subject, req, each)
		return err
	})
	return n, err
}

func getAll(ctx context.Context, nc *nats.Conn, subject string, req getRequest, each func(m *nats.Msg, seq uint64) error) (int, error) {
	b, err := json.Marshal(req)
	if err != nil {
		return 0, err
	}
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return 0, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return 0, err
	}
	if err := nc.PublishRequest(subject, sub.Subject, b); err != nil {
		return 0, err
	}
	for n := 0; ; n++ {
		m, err := nextMsg(ctx, sub, batchIdle)
		if err != nil {
			return n, err
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case "204", "404": // end of batch, nothing there
			return n, nil
		default:
			return n, fmt.Errorf("direct get: %s %s", status, m.Header.Get("Description"))
		}
		seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		if err != nil {
			return n, fmt.Errorf("%w: direct get: sequence: %w", messages.ErrWire, err)
		}
		if err := each(m, seq); err != nil {
			return n, err
		}
	}
}

func nextMsg(ctx context.Context, sub *nats.Subscription, idle time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, idle)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}

// decodeRecord reads a stored message. An error names the sequence.
func decodeRecord(h nats.Header, data []byte, seq uint64) (messages.Envelope, error) {
	e, err := messages.Decode(h, data)
	if err != nil {
		return messages.Envelope{}, fmt.Errorf("sequence %d, run %q, writer %q, step %q: %w", seq,
			h.Get(messages.HeaderRun), h.Get(messages.HeaderWriter), h.Get(messages.HeaderStep), err)
	}
	e.Seq = seq
	return e, nil
}
