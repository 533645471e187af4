// Package plan has the ways in which a team works. Each is an actors.Plan, and
// a plain function over an actors.Stage: write your own in the same way.
package plan
