package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"stagecraft/internal/oci"
)

// annotationContainerd holds the full image name in layouts written by
// containerd, BuildKit and us; [v1.AnnotationRefName] then holds the tag alone.
const annotationContainerd = "io.containerd.image.name"

// layoutScheme is how named contexts spell a layout.
const layoutScheme = "oci-layout://"

// Layout is a source of the images in one OCI layout: a directory, or a tar
// archive of one. Which image is meant is said by Tag or Digest, else by the
// reference that is resolved; a layout with a single image needs neither.
type Layout struct {
	Path   string
	Tag    string     // a bare tag, or a full name
	Digest oci.Digest // of an entry of index.json
}

var _ Source = Layout{}

// ParseLayout reads "oci-layout://DIR[:TAG][@DIGEST]". The scheme may be
// missing. Nothing is opened.
func ParseLayout(s string) (Layout, error) {
	l := Layout{Path: strings.TrimPrefix(s, layoutScheme)}
	if at := strings.LastIndexByte(l.Path, '@'); at >= 0 {
		l.Digest = oci.Digest(l.Path[at+1:])
		if err := checkDigest(l.Digest); err != nil {
			return Layout{}, fmt.Errorf("image layout %q: %w", s, err)
		}
		l.Path = l.Path[:at]
	}
	if colon := strings.LastIndexByte(l.Path, ':'); colon > strings.LastIndexByte(l.Path, '/') {
		l.Path, l.Tag = l.Path[:colon], l.Path[colon+1:]
		if l.Tag == "" {
			return Layout{}, fmt.Errorf("image layout %q: no tag after the colon", s)
		}
	}
	if l.Path == "" {
		return Layout{}, fmt.Errorf("image layout %q: no directory", s)
	}
	return l, nil
}

// String writes l as [ParseLayout] reads it.
func (l Layout) String() string {
	s := layoutScheme + l.Path
	if l.Tag != "" {
		s += ":" + l.Tag
	}
	if l.Digest != "" {
		s += "@" + l.Digest.String()
	}
	return s
}

// Resolve finds the image in the layout. ref is used when l itself does not say
// which image is meant; its zero value stands for the layout's only image.
func (l Layout) Resolve(ctx context.Context, ref oci.Reference, p oci.Platform) (*Image, error) {
	files, err := openLayoutFiles(l.Path)
	if err != nil {
		return nil, l.openError(err)
	}
	defer files.Close()
	index, err := l.index(files)
	if err != nil {
		return nil, err
	}
	entry, err := l.choose(index, ref, p)
	if err != nil {
		return nil, err
	}
	manifest, err := l.descend(files, entry, p)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(l.String(), manifest)
	if err != nil {
		return nil, err
	}
	config, err := l.readBlob(files, m.Config, maxConfig)
	if err != nil {
		return nil, err
	}
	return newImage(l.String(), manifest, config, l)
}

func (l Layout) openError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &NotFoundError{Ref: l.String(), Reason: "there is no such directory or archive",
			Try: "check the path; a path with a colon in its last part needs a tag after it"}
	}
	var invalid *InvalidError
	if errors.As(err, &invalid) {
		return err
	}
	return fmt.Errorf("image %s: %w", l, err)
}

// index reads index.json and checks the layout's version file.
func (l Layout) index(files layoutFiles) (*oci.Index, error) {
	raw, err := readSmall(files, v1.ImageLayoutFile, 4<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &InvalidError{"image " + l.String(), "is no OCI layout: it has no file oci-layout"}
	}
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", l, err)
	}
	var version v1.ImageLayout
	if err := json.Unmarshal(raw, &version); err != nil || !strings.HasPrefix(version.Version, "1.") {
		return nil, &InvalidError{"image " + l.String(), fmt.Sprintf("has layout version %.20q, want 1.x", version.Version)}
	}
	raw, err = readSmall(files, v1.ImageIndexFile, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", l, err)
	}
	return parseIndex(l.String(), raw)
}

// choose picks the entry of index.json that is meant. Of several with the name
// that is asked for the platform decides.
func (l Layout) choose(index *oci.Index, ref oci.Reference, p oci.Platform) (oci.Descriptor, error) {
	var names []string // for the error
	var found []oci.Descriptor
	images := index.Manifests[:0:0]
	for _, d := range index.Manifests {
		if d.Annotations[attestationType] == "" {
			images = append(images, d)
			names = append(names, entryName(d))
		}
	}
	asked := l.Tag != "" || l.Digest != "" || ref.String() != ""
	for _, d := range images {
		if asked && l.means(d, ref) {
			found = append(found, d)
		}
	}
	onlyOne := len(images) > 0 && !slices.ContainsFunc(names, func(n string) bool { return n != names[0] })
	if len(found) == 0 && l.Tag == "" && l.Digest == "" && onlyOne {
		found = images
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return choosePlatform(l.String(), &oci.Index{Manifests: found}, p)
	case len(images) == 0:
		return oci.Descriptor{}, &NotFoundError{Ref: l.String(), Reason: "the layout is empty"}
	case !asked:
		return oci.Descriptor{}, &NotFoundError{Ref: l.String(),
			Reason: "the layout has several images: " + strings.Join(names, ", "),
			Try:    "name one: " + layoutScheme + "DIR:TAG"}
	}
	return oci.Descriptor{}, &NotFoundError{Ref: l.String(), Reason: "the layout has only " + strings.Join(names, ", ")}
}

// means reports whether an entry is the one that is asked for. Entries are
// named by full name or by bare tag, depending on the tool that wrote them.
func (l Layout) means(d oci.Descriptor, ref oci.Reference) bool {
	if l.Digest != "" && d.Digest != l.Digest {
		return false
	}
	name, full := d.Annotations[v1.AnnotationRefName], d.Annotations[annotationContainerd]
	if l.Tag != "" {
		return name == l.Tag || full == l.Tag || sameReference(name, l.Tag) || sameReference(full, l.Tag)
	}
	if l.Digest != "" {
		return true
	}
	if ref.Digest() != "" {
		return d.Digest == ref.Digest()
	}
	if full != "" {
		return sameReference(full, ref.String())
	}
	return name != "" && (name == ref.Tag() || sameReference(name, ref.String()))
}

// sameReference reports whether two names with a repository mean one image.
func sameReference(a, b string) bool {
	if !strings.ContainsAny(a, "/:") || !strings.ContainsAny(b, "/:") {
		return false // a bare tag is no name
	}
	x, err := oci.ParseReference(a)
	if err != nil {
		return false
	}
	y, err := oci.ParseReference(b)
	return err == nil && x.String() == y.String()
}

// entryName is how an entry of index.json is shown to a user.
func entryName(d oci.Descriptor) string {
	for _, key := range []string{annotationContainerd, v1.AnnotationRefName} {
		if name := d.Annotations[key]; name != "" {
			return name
		}
	}
	return d.Digest.String()
}

// descend follows indexes down to the manifest for the platform.
func (l Layout) descend(files layoutFiles, d oci.Descriptor, p oci.Platform) ([]byte, error) {
	for range 4 {
		raw, err := l.readBlob(files, d, maxManifest)
		if err != nil {
			return nil, err
		}
		index, err := isIndex(l.String(), d.MediaType, raw)
		if err != nil || !index {
			return raw, err
		}
		list, err := parseIndex(l.String(), raw)
		if err != nil {
			return nil, err
		}
		if d, err = choosePlatform(l.String(), list, p); err != nil {
			return nil, err
		}
	}
	return nil, &InvalidError{"image " + l.String(), "has indexes within indexes more than 4 deep"}
}

func (l Layout) readBlob(files layoutFiles, d oci.Descriptor, limit int64) ([]byte, error) {
	r, err := files.open(blobName(d.Digest))
	if err != nil {
		return nil, l.blobError(d, err)
	}
	return readVerified(r, d, limit, "blob "+d.Digest.String()+" of "+l.String())
}

// openBlob opens a layer. The layout is opened anew: it may be long since it was
// resolved.
func (l Layout) openBlob(_ context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	files, err := openLayoutFiles(l.Path)
	if err != nil {
		return nil, l.openError(err)
	}
	r, err := files.open(blobName(d.Digest))
	if err != nil {
		files.Close()
		return nil, l.blobError(d, err)
	}
	return closeBoth{r, files}, nil
}

func (l Layout) blobError(d oci.Descriptor, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &NotFoundError{Ref: l.String(), Reason: "the layout has no blob " + d.Digest.String(),
			Try: "the layout is incomplete: write it again"}
	}
	return fmt.Errorf("image %s: %w", l, err)
}

// closeBoth reads one thing and closes two.
type closeBoth struct {
	io.ReadCloser
	then io.Closer
}

func (c closeBoth) Close() error { return errors.Join(c.ReadCloser.Close(), c.then.Close()) }
