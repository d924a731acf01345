package build

import "time"

// EventKind says what an [Event] tells.
type EventKind string

// The kinds of events. A step starts once, prints, and ends in exactly one of
// cached, done and failed; a cancelled one just stops.
const (
	EventStarted EventKind = "started"
	EventCached  EventKind = "cached"
	EventLog     EventKind = "log"
	EventDone    EventKind = "done"
	EventFailed  EventKind = "failed"
	EventNotice  EventKind = "notice" // a word to the user, of no step
)

// Event is one thing that happened in a build. Text, terminal and JSON output
// are readers of one stream of these. Events of one step come in order.
type Event struct {
	Kind  EventKind `json:"kind"`
	At    time.Time `json:"at"`
	Step  int       `json:"step,omitempty"`  // numbers what is shown, from 1; 0 for a notice
	Name  string    `json:"name,omitempty"`  // of started and cached: "[build 2/5] RUN make"
	Log   []byte    `json:"log,omitempty"`   // of log: bytes as printed, no whole lines promised
	Text  string    `json:"text,omitempty"`  // of notice and failed
	Since float64   `json:"since,omitempty"` // of log, done, failed: seconds since the step started
}
