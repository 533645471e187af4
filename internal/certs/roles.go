package certs

import (
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/covey-run/covey/messages"
)

// Role says what a key may do.
type Role string

const (
	// Node works on runs: everything of Covey's, and JetStream.
	Node Role = "node"
	// Submit puts tasks into the queue, keeps sessions, and speaks to runs that a
	// node works on (cancel, resolve); it reads what Observe reads. It cannot
	// write the journal: a run that nobody works on is a node's to end.
	Submit Role = "submit"
	// Observe reads: runs, the queue, nodes, and everything that is said.
	Observe Role = "observe"
	// Member serves members as a program (actors.Agent's External): it hears what
	// programs are asked, and speaks to runs.
	Member Role = "member"
)

// handed are the roles, beside nodes', of which each has one key in the folder.
var handed = []Role{Submit, Observe, Member}

// User is who a key belongs to, as users.json has it. It holds no secret.
type User struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Key is the public nkey, "U…".
	Key string `json:"key"`
}

// InboxPrefix is where the replies to a key's requests go. Nobody else may
// subscribe there.
func InboxPrefix(key string) string { return "_INBOX." + key }

// The streams and buckets that the roles read. COVEY_TASKS is apart: a consumer
// on a work queue takes what it is given.
var read = []string{"COVEY_JOURNAL", "COVEY_PARKED", "KV_COVEY_NODES", "KV_COVEY_SESSIONS", "KV_COVEY_BREAKERS", "KV_COVEY_ROUTERS"}

// Permissions are what a user may publish and subscribe to. The embedded server
// and nats.conf both have them from here.
//
// What they do not keep out: JetStream answers a request, and delivers to a
// consumer, wherever the client says, streams' subjects included. The holder of a
// narrow key who means harm can so have texts of the server's stored among the
// journal's claims or the leases, and disturb runs; it cannot choose what they
// say. Give keys to those who may know what runs say, and take a key back by
// taking its user out of users.json on every server.
func Permissions(u User) *server.Permissions {
	inbox, pulse := InboxPrefix(u.Key)+".>", messages.SubjectPulse+".*"
	if u.Role == Node {
		return permissions(
			[]string{"covey.>", pulse, "$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$KV.>", "$SRV.>", "_INBOX.>"},
			[]string{"covey.>", pulse, "$KV.>", "$SRV.>", inbox})
	}
	if u.Role == Member {
		p := permissions([]string{messages.SubjectBus + ".>"}, []string{messages.SubjectMembers + ".>", inbox})
		p.Response = &server.ResponsePermission{MaxMsgs: 1, Expires: time.Minute} // to whoever asked
		return p
	}
	publish := []string{
		pulse, "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.FC.>",
		"$JS.API.STREAM.INFO.COVEY_TASKS", "$JS.API.STREAM.MSG.GET.COVEY_TASKS", "$JS.API.DIRECT.GET.COVEY_TASKS", "$JS.API.DIRECT.GET.COVEY_TASKS.>",
	}
	for _, s := range read {
		for _, api := range []string{"STREAM.INFO.", "STREAM.MSG.GET.", "DIRECT.GET."} {
			publish = append(publish, "$JS.API."+api+s)
		}
		for _, api := range []string{"DIRECT.GET.", "CONSUMER.CREATE.", "CONSUMER.INFO.", "CONSUMER.MSG.NEXT.", "CONSUMER.DELETE."} {
			publish = append(publish, "$JS.API."+api+s+".>")
		}
	}
	for _, verb := range []string{"ping", "tree", "info"} {
		publish = append(publish, messages.Subject(messages.SubjectNodes, "*", verb))
	}
	if u.Role == Submit {
		return permissions(append(publish, messages.SubjectTasks+".>", messages.SubjectBus+".>", "$KV.COVEY_SESSIONS.>"), []string{inbox})
	}
	return permissions(publish, []string{"covey.>", inbox})
}

func permissions(publish, subscribe []string) *server.Permissions {
	slices.Sort(publish)
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: publish},
		Subscribe: &server.SubjectPermission{Allow: subscribe},
	}
}
