// Package chaos breaks a cluster of real processes on purpose, by a schedule
// that a seed determines, and says from outside of it what held: it counts what
// the world saw of the teams' work, and reads the journal past the programs that
// wrote it.
//
// It is one kit for the project's own tests and for `covey chaos`.
package chaos
