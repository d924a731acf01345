package image

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// withMirrors adds to the error of a registry what its mirrors said before.
func withMirrors(err error, mirrors []string) error {
	if err == nil || len(mirrors) == 0 {
		return err
	}
	said := strings.Join(mirrors, "; ")
	var nf *NotFoundError
	if errors.As(err, &nf) {
		return &NotFoundError{Ref: nf.Ref, Reason: nf.Reason + "; " + said, Try: nf.Try}
	}
	var down *UnreachableError
	if errors.As(err, &down) {
		return &UnreachableError{Ref: down.Ref, Host: down.Host, Err: fmt.Errorf("%w; %s", down.Err, said)}
	}
	return err
}

// mirrorCause is the part of an error that does not name the image again.
func mirrorCause(err error) error {
	var nf *NotFoundError
	if errors.As(err, &nf) {
		return errors.New("not found")
	}
	var denied *DeniedError
	if errors.As(err, &denied) {
		return errors.New("access denied")
	}
	var down *UnreachableError
	if errors.As(err, &down) {
		return down.Err
	}
	return err
}

// plainCause drops the URL from an HTTP client's error: the reader is told host
// and image, and the URL may hold what a token server put there.
func plainCause(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	// net/http has no value for this one.
	if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return errors.New("it speaks plain HTTP, which needs insecure = true for it in the configuration file")
	}
	return err
}
