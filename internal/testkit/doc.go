// Package testkit makes what tests need: a registry that can fail, images and
// layers that are the same on every run, hostile archives, and a small image
// that can run a shell.
//
// Only tests import it. It makes its images with go-containerregistry, not with
// the project's own code, so that each checks the other. Nothing in it reaches
// beyond loopback, and all it starts ends with the test.
//
// Start reading at [Registry] and [ImageOptions].
package testkit
