// Package cluster is the node: the handle that users start. It runs an embedded
// NATS server or joins one, keeps the journal, the task queue and the bus there,
// and runs teams in a supervision tree on top.
//
//	node, err := cluster.Start(ctx, cluster.Config{})
//	defer node.Stop(ctx)
//	answer, err := node.Ask(ctx, team, "How did printing change Renaissance art?")
package cluster
