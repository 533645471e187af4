//go:build race

package cluster

const withRace = true
