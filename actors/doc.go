// Package actors is Covey's runtime: agents, tools, providers, teams and runs
// as supervised actors, and the plans that teams work to.
//
// A run's truth is its journal. Every step (an ask, a model's reply, a tool's
// intent and its result, an answer) is appended before anybody acts on it, and
// a run that is started again walks its plan over what is recorded, at no cost,
// to where it was. Actors are a cache of that: any of them may crash.
package actors
