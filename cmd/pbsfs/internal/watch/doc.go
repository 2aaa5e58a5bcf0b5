// Package watch tells what changes on datastores: modes, counts, open files, problems.
//
// A Source looks at regular intervals, as long as somebody has subscribed, and hands what
// it saw to all subscriptions at once. The command status --watch and the event streams
// of the API use the same Source.
//
// The Source never waits for a subscriber. If a subscriber does not take what it is
// given in time, its subscription ends, and [Subscription.Dropped] says so.
//
// Source.mu guards the set of subscriptions and the last view. Nothing is called under
// it, and each Source has one goroutine, which ends with the last subscription.
package watch
