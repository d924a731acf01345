package image

import (
	"fmt"
	"strings"
)

// All typed errors of this package have a method Hint, which says what a user
// can try.

// NotFoundError says that a source was asked and does not have the image.
type NotFoundError struct {
	Ref    string
	Reason string // "manifest unknown at docker.io", ...
	Try    string // what to do about it; "" for the usual advice
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("image %s: not found: %s", e.Ref, e.Reason)
}

// Hint says what to try.
func (e *NotFoundError) Hint() string {
	if e.Try != "" {
		return e.Try
	}
	return "check the spelling of name and tag; `stagecraft images` lists what is here already"
}

// DeniedError says that the registry wants credentials for the image, or does
// not tell strangers that it does not exist.
type DeniedError struct {
	Ref  string
	Host string
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("image %s: %s denies access without login: it does not exist or is private", e.Ref, e.Host)
}

// Hint says what to try.
func (e *DeniedError) Hint() string {
	return "check the name; a private image can be brought in with --build-context NAME=oci-layout://DIR"
}

// UnreachableError says that no registry which could have the image answered.
type UnreachableError struct {
	Ref  string
	Host string // the registry's, or those tried, separated by ", "
	Err  error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("image %s: registry %s cannot be reached: %v", e.Ref, e.Host, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Hint says what to try.
func (e *UnreachableError) Hint() string {
	return "check the network, name a mirror in the configuration file, " +
		"or give the image with --build-context NAME=oci-layout://DIR"
}

// CorruptError says that bytes are not what their digest or size promises.
type CorruptError struct {
	What   string // "layer sha256:... of docker.io/library/debian:12"
	Reason string // "ends after 12 of 500 bytes", ...
}

func (e *CorruptError) Error() string { return fmt.Sprintf("%s: %s", e.What, e.Reason) }

// Hint says what to try.
func (e *CorruptError) Hint() string {
	return "try again; if it stays, the source of the image is damaged: use another registry, mirror or tag"
}

// InvalidError says that a manifest, config or layout breaks the specification,
// or is of a kind that this program does not read.
type InvalidError struct {
	What   string
	Reason string
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s: %s", e.What, e.Reason) }

// Hint says what to try.
func (e *InvalidError) Hint() string {
	return "write the image again with a current tool (skopeo copy, docker buildx build), as an OCI image"
}

// platformError says that an index has no image for the platform, and for which
// it has one.
func platformError(ref, want string, have []string) error {
	reason := fmt.Sprintf("no image for platform %s; there are %s", want, strings.Join(have, ", "))
	if len(have) == 0 {
		reason = fmt.Sprintf("no image for platform %s; the index is empty", want)
	}
	return &NotFoundError{Ref: ref, Reason: reason, Try: "choose one of the platforms that exist, or another tag"}
}
