// Package wiretest tests docs/wire.md: it speaks to a node as a program of another
// language would, with a NATS client and none of Covey's packages.
package wiretest
