// Package solve runs a graph: it computes keys, looks results up, and runs
// what is missing, side by side, each thing once.
//
// It knows no op and does no I/O: a [Runner] gives keys, records and runs
// their meaning, so the package is tested with fakes that count their calls.
//
// # How it works
//
// Two memoised functions over the vertices, each computed at most once:
//
//   - record(v): what v makes, as content ids. It needs the records of v's
//     inputs (for v's key), a lookup, and on a miss result(v).
//   - result(v): the same with its bytes at hand. On a hit whose bytes are
//     there it runs nothing; else it needs the results of v's inputs, the lock
//     of v's key, a second lookup, a slot, and one run.
//
// So a record whose bytes are gone still gives the keys downstream, and a step
// that reran and made equal content leaves those keys as they were: everything
// behind it is a hit (early cutoff).
//
// # Invariants
//
//   - Only a run takes a slot; whoever holds a slot waits for no other vertex.
//   - The first failure cancels everything else and is the error returned.
//   - When Solve returns, no goroutine of it is left.
//
// Start reading at [Solve], then the memoised pair in solver.go.
package solve
