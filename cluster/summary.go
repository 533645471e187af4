package cluster

import (
	"slices"

	"github.com/covey-run/covey/messages"
)

// aliveFunc reports whether the owner of a claim is alive.
type aliveFunc func(messages.Claim) bool

// claimOf is a writer's newest claim and its place in the journal.
type claimOf struct {
	messages.Claim
	seq uint64
}

// intentKey names a tool call within a run.
type intentKey struct {
	writer, step string
	n, call      int
}

// describe fills in what a run's task says.
func describe(i *messages.RunInfo, t messages.Task) {
	i.Team, i.Prompt, i.Session, i.Priority, i.Queue = t.Team, t.Prompt, t.Session, t.Priority, t.QueueName()
}

// summarize tells from a run's records, in order, and its newest claims, by
// writer, where the run stands.
func summarize(run string, records []messages.Envelope, claims map[string]claimOf, alive aliveFunc) messages.RunInfo {
	info := messages.RunInfo{Run: run}
	open := map[intentKey]messages.Envelope{}
	var order []intentKey
	for _, e := range records {
		info.Last = e.Time
		switch b := e.Body.(type) {
		case *messages.Begun:
			if info.Started.IsZero() {
				info.Started = e.Time
				describe(&info, b.Task)
			}
		case *messages.Modeled:
			info.Steps++
		case *messages.Intent:
			k := intentKey{e.Writer, e.Step, b.N, b.Call}
			if _, again := open[k]; !again {
				order = append(order, k)
			}
			open[k] = e
		case *messages.Result:
			info.Steps++
			delete(open, intentKey{e.Writer, e.Step, b.N, b.Call})
		case *messages.Resolve:
			if k := (intentKey{e.Writer, e.Step, b.N, b.Call}); b.Retry {
				delete(open, k)
				order = slices.DeleteFunc(order, func(o intentKey) bool { return o == k })
			}
		case *messages.Done:
			info.State, info.Answer = messages.RunDone, &b.Answer
		case *messages.Failed:
			info.State, info.Error = messages.RunFailed, b.Error
		case *messages.Reopened:
			info.State, info.Error = "", nil
		}
	}
	plan := claims[messages.PlanWriter].Claim
	info.Node, info.Epoch = plan.Node, plan.Epoch
	for writer, c := range claims {
		if c.Node == plan.Node || c.Node == clientNode || plan.Node == clientNode {
			continue
		}
		if info.Placed == nil {
			info.Placed = map[string]string{}
		}
		info.Placed[writer] = c.Node
	}
	cutOff := false
	for _, k := range order {
		e, unsettled := open[k]
		if !unsettled {
			continue
		}
		in := e.Body.(*messages.Intent)
		info.Unsettled = append(info.Unsettled, messages.Unsettled{Writer: k.writer, Step: k.step, Intent: *in})
		// An intent from before its writer's newest claim: the call was cut off.
		dead := !alive(claims[k.writer].Claim)
		cutOff = cutOff || in.Effect == messages.Unsafe && (dead || e.Seq < claims[k.writer].seq)
	}
	switch {
	case info.State != "":
	case cutOff:
		info.State = messages.RunWaiting
	case alive(plan):
		info.State = messages.RunRunning
	default:
		info.State = messages.RunInterrupted
	}
	return info
}
