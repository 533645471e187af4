// Package supervisor runs actors in a supervision tree on protoactor-go, and
// mends what protoactor leaves open: one-for-one, all-for-one and rest-for-one
// policies with a jittered, capped backoff; failure classes that steer what is
// done; quarantine; asks that always end; mailboxes that answer what they can
// no longer deliver; and a live tree that costs nothing while nobody looks.
//
// An [Actor] handles one message at a time and must not block: work that takes
// time runs in [Context.Go] and comes back as a message. Any actor may have
// children and then supervises them by its [Spec]'s policy.
package supervisor
