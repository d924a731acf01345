package graph

import "stagecraft/internal/oci"

// Op is what a vertex does. The set is sealed: [Image], [Local], [Exec] and
// [File] are all there are.
type Op interface{ op() }

// Image is the root file system of an image: a source without inputs. Its
// content is its diffIDs, known from the config alone, so nothing is pulled
// until a step needs the bytes.
type Image struct {
	Ref      string       // as resolved: "docker.io/library/debian:12"
	Digest   oci.Digest   // of the platform's manifest
	Platform oci.Platform // of the image, not of the host
	DiffIDs  []oci.Digest // lowest layer first
}

// Local is a directory of the machine that builds: the build context or a
// named context. Which of its files matter is said by the ops that copy from
// it, so it has no key of its own.
type Local struct {
	Name string // "context" for the build context, else the named context's name
}

// Exec runs one process over the root file system of input 0 (or an empty one
// when the vertex has no inputs); what it writes becomes one layer.
type Exec struct {
	Args    []string
	Env     []string // NAME=value, in the image's order
	Dir     string   // absolute
	User    string   // user[:group], names or numbers, "" is root
	Network Network
	Files   []ExecFile // mounted read-only for the run, no trace in the layer
	Proxy   []string   // NAME=value, added to Env for the run alone: never in a key, a record or a layer
}

// Network says what a RUN step can reach.
type Network string

// The networks of a RUN step.
const (
	NetworkHost Network = "host" // the builder's own network, the default
	NetworkNone Network = "none" // loopback only
)

// ExecFile is a file that exists only while an [Exec] runs, such as the body
// of a heredoc with a shebang.
type ExecFile struct {
	Path string // absolute
	Mode uint32 // permission bits
	Data []byte
}

// File changes the file system of input 0 without running anything: its
// actions are applied in order and their sum is one layer. With Scratch there
// is no such input, and the layer lies over nothing.
type File struct {
	Scratch bool
	Actions []Action
}

// Action is one change of a [File] op. The set is sealed: [Copy], [Mkdir] and
// [Mkfile].
type Action interface{ action() }

// Copy copies from input From into the destination, with the rules of COPY and
// ADD in the Dockerfile reference.
type Copy struct {
	From    int      // index into the vertex's Inputs
	Sources []string // relative to the source's root; wildcards are Go's filepath.Match
	Dest    string   // absolute; a trailing slash means "into this directory"
	Owner   string   // user[:group]; "" keeps the owner of an image's file and is 0:0 for a context's
	Mode    *uint32  // permission bits for every entry; nil keeps the source's
	Extract bool     // ADD: unpack a source that is a local tar archive
}

// Mkdir makes a directory and its missing parents. An existing one is left as
// it is.
type Mkdir struct {
	Path  string // absolute
	Mode  uint32
	Owner string // user[:group]; "" is 0:0
}

// Mkfile writes a file, such as the heredoc of COPY.
type Mkfile struct {
	Dest  string // absolute; with a trailing slash, or an existing directory, Name is put below it
	Name  string // the heredoc's name
	Data  []byte
	Mode  uint32
	Owner string // user[:group]; "" is 0:0
}

func (*Image) op() {}
func (*Local) op() {}
func (*Exec) op()  {}
func (*File) op()  {}

func (*Copy) action()   {}
func (*Mkdir) action()  {}
func (*Mkfile) action() {}
