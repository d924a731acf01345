package build

import (
	"time"

	"stagecraft/internal/oci"
	"stagecraft/internal/plan"
)

// Request says what to build. Its fields have the names and the meaning of the
// flags of docker buildx build.
type Request struct {
	ContextDir string // the build context
	Dockerfile string // path; "" is Dockerfile in the context

	Target    string
	BuildArgs map[string]string
	Labels    map[string]string
	Contexts  map[string]string // named contexts: NAME -> oci-layout://DIR[:TAG] or a directory
	Platform  string            // "" is the host's
	NoCache   bool
	Pull      bool
	Jobs      int // steps that run at once; 0 is [DefaultJobs]

	Tags    []string
	Outputs []Output // none: the image is kept in the local store

	Observe func(Event) // may be nil; called from one goroutine at a time
}

// OutputType is a kind of result.
type OutputType string

// The kinds of results.
const (
	OutputOCI   OutputType = "oci"   // OCI layout, as an archive or a directory
	OutputLocal OutputType = "local" // the files of the image
	OutputTar   OutputType = "tar"   // the files of the image, as one archive
)

// Output is a place where a result goes.
type Output struct {
	Type OutputType
	Dest string // path; "-" is standard output, for archives
	Tar  bool   // of OutputOCI: an archive, not a directory
}

// Result is what a build made.
type Result struct {
	ImageID        oci.Digest     // digest of the image's config
	ManifestDigest oci.Digest     // "" where nothing was packed
	Descriptor     oci.Descriptor // of the manifest, where one was packed
	Names          []string       // full names of the tags
	Summary        Summary
}

// Summary is what a build did.
type Summary struct {
	Steps, Ran, Cached int
	Skipped            []plan.Stage
	Wall               time.Duration
	Saved              time.Duration // against running the same steps one after the other
	ImageBytes         int64         // of the image's files, unpacked
	Largest            string        // the largest stage that it was built from, "" when there is none
	LargestBytes       int64
}
