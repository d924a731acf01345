// Package insight gives read-only answers about plans and images: which stages
// run and which do not, what an image consists of, where its bytes are.
//
// It changes nothing and builds nothing; what it shows it was given or reads
// from the store.
//
// Start reading at [RenderPlan] and [Inspect].
package insight
