package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"stagecraft/internal/cache"
	"stagecraft/internal/oci"
)

// Images is the local image store: images that were built or tagged here, kept
// as layers of the cache, unpacked and uncompressed.
//
// On disk it is two kinds of names in the cache: "image/ID" stands for a
// [Stored], "tag/NAME" (a full image name) for an ID. A record is written when
// all that it names is there, and tags after it; who reads a record checks that
// what it names still is.
type Images struct {
	store *cache.Store
}

var _ Source = (*Images)(nil)

// NewImages returns the images of a store.
func NewImages(store *cache.Store) *Images { return &Images{store} }

// Stored is an image of the local store.
type Stored struct {
	ID       oci.Digest   `json:"id"`       // digest of the config
	Manifest oci.Digest   `json:"manifest"` // blob; its layers are uncompressed or as they were pulled
	Layers   []oci.Digest `json:"layers"`   // ids in the store, lowest first
	Platform oci.Platform `json:"platform"`
	Created  time.Time    `json:"created"` // when it was kept here
	Size     int64        `json:"size"`    // bytes of its files, unpacked

	Tags []oci.Reference `json:"-"` // sorted; empty for an image without a name
}

const (
	refImage = "image/"
	refTag   = "tag/"
	lockRefs = "images"
)

// Keep stores the image that config and layers make, under the tags. A tag that
// another image had moves; an image that loses its last tag so is forgotten.
func (s *Images) Keep(ctx context.Context, config oci.Image, layers []*cache.Layer, tags []oci.Reference) (*Stored, error) {
	parts := make([]Packed, len(layers))
	rec := &Stored{Layers: []oci.Digest{}, Platform: config.Platform, Created: time.Now().UTC()}
	for n, l := range layers {
		p, err := Pack(ctx, s.store, l, PackOptions{Compression: Uncompressed})
		if err != nil {
			return nil, err
		}
		parts[n] = p
		rec.Layers = append(rec.Layers, l.ID)
		rec.Size += l.Bytes
	}
	img, err := Assemble(s.store, config, parts)
	if err != nil {
		return nil, err
	}
	rec.ID, rec.Manifest = img.ID(), img.Digest
	unlock, err := s.store.Lock(ctx, lockRefs)
	if err != nil {
		return nil, err
	}
	defer unlock()
	old, err := s.byID(rec.ID)
	switch {
	case err == nil && old.Manifest == rec.Manifest && slices.Equal(old.Layers, rec.Layers):
		rec = old // a build that changed nothing writes nothing
	case err == nil || isNotFound(err):
		err = s.store.PutRef(refImage+rec.ID.String(), rec)
	}
	if err != nil {
		return nil, err
	}
	for _, tag := range tags {
		if err := s.point(tag, rec.ID); err != nil {
			return nil, err
		}
	}
	return s.withTags(rec)
}

// Tag gives an image one more name.
func (s *Images) Tag(ctx context.Context, id oci.Digest, tag oci.Reference) error {
	unlock, err := s.store.Lock(ctx, lockRefs)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := s.byID(id); err != nil {
		return err
	}
	return s.point(tag, id)
}

// point moves a tag, with the lock held.
func (s *Images) point(tag oci.Reference, id oci.Digest) error {
	if tag.Tag() == "" || tag.Digest() != "" {
		return fmt.Errorf("tag image %s: want a name with a tag and without a digest", tag)
	}
	var old oci.Digest
	had, err := s.store.Ref(refTag+tag.String(), &old)
	if err != nil || old == id {
		return err
	}
	if err := s.store.PutRef(refTag+tag.String(), id); err != nil {
		return err
	}
	if had {
		return s.forgetUntagged(old)
	}
	return nil
}

// forgetUntagged drops the record of an image that has no tag, with the lock
// held. Its layers stay in the cache.
func (s *Images) forgetUntagged(id oci.Digest) error {
	tags, err := s.tags()
	if err != nil || len(tags[id]) > 0 {
		return err
	}
	return s.store.DeleteRef(refImage + id.String())
}

// List returns all images that are whole, the newest first.
func (s *Images) List() ([]*Stored, error) {
	names, err := s.store.Refs()
	if err != nil {
		return nil, err
	}
	tags, err := s.tagsOf(names)
	if err != nil {
		return nil, err
	}
	var all []*Stored
	for _, name := range names {
		id, ok := strings.CutPrefix(name, refImage)
		if !ok {
			continue
		}
		rec, err := s.byID(oci.Digest(id))
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		rec.Tags = tags[rec.ID]
		all = append(all, rec)
	}
	slices.SortFunc(all, func(a, b *Stored) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// Find returns the image of a name, an ID, or a prefix of one that no other
// image has (with or without "sha256:"). Names come before prefixes.
func (s *Images) Find(name string) (*Stored, error) {
	if ref, err := oci.ParseReference(name); err == nil && ref.Digest() == "" {
		rec, err := s.byTag(ref)
		if err == nil {
			return s.withTags(rec)
		}
		if !isNotFound(err) {
			return nil, err
		}
	}
	hex := strings.TrimPrefix(name, "sha256:")
	if len(hex) < 2 || strings.Trim(hex, "0123456789abcdef") != "" {
		return nil, s.unknown(name)
	}
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	var found *Stored
	for _, rec := range all {
		if !strings.HasPrefix(rec.ID.Encoded(), hex) {
			continue
		}
		if found != nil {
			return nil, &NotFoundError{Ref: name, Reason: "several images have IDs that begin so", Try: "give more digits of the ID"}
		}
		found = rec
	}
	if found == nil {
		return nil, s.unknown(name)
	}
	return found, nil
}

// Remove takes a name from an image, or with an ID or a prefix of one removes the
// image with all its names. It reports the names that are gone and the ID of the
// image when that is, too; an image goes with its last name.
func (s *Images) Remove(ctx context.Context, name string) (untagged []oci.Reference, removed oci.Digest, err error) {
	unlock, err := s.store.Lock(ctx, lockRefs)
	if err != nil {
		return nil, "", err
	}
	defer unlock()
	rec, err := s.Find(name)
	if err != nil {
		return nil, "", err
	}
	untagged = rec.Tags
	if ref, err := oci.ParseReference(name); err == nil {
		if n := slices.IndexFunc(rec.Tags, func(t oci.Reference) bool { return t.String() == ref.String() }); n >= 0 {
			untagged = rec.Tags[n : n+1]
		}
	}
	for _, tag := range untagged {
		if err := s.store.DeleteRef(refTag + tag.String()); err != nil {
			return nil, "", err
		}
	}
	if len(untagged) < len(rec.Tags) {
		return untagged, "", nil
	}
	return untagged, rec.ID, s.store.DeleteRef(refImage + rec.ID.String())
}

// Open returns an image of the store.
func (s *Images) Open(rec *Stored) (*Image, error) {
	name := rec.ID.String()
	if len(rec.Tags) > 0 {
		name = rec.Tags[0].String()
	}
	return s.open(name, rec)
}

func (s *Images) open(ref string, rec *Stored) (*Image, error) {
	img, err := storedImage(s.store, ref, rec.Manifest, nil)
	if errors.Is(err, cache.ErrNotFound) {
		return nil, s.unknown(ref)
	}
	if err != nil {
		return nil, err
	}
	img.LayerIDs = rec.Layers
	img.blobs = newStoreBlobs(s.store, img)
	return img, nil
}

// storedImage reads an image whose manifest and config are blobs of the store.
func storedImage(store *cache.Store, ref string, manifest oci.Digest, blobs blobOpener) (*Image, error) {
	raw, err := store.ReadBlob(manifest)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(ref, raw)
	if err != nil {
		return nil, err
	}
	config, err := store.ReadBlob(m.Config.Digest)
	if err != nil {
		return nil, err
	}
	return newImage(ref, raw, config, blobs)
}

// Resolve finds an image by its tag, or by the digest of its manifest where the
// reference has one.
func (s *Images) Resolve(_ context.Context, ref oci.Reference, p oci.Platform) (*Image, error) {
	var rec *Stored
	var err error
	if ref.Digest() == "" {
		rec, err = s.byTag(ref)
	} else {
		rec, err = s.byManifest(ref)
	}
	if err != nil {
		return nil, err
	}
	if !oci.MatchPlatform(p, rec.Platform) {
		return nil, platformError(ref.String(), oci.FormatPlatform(p), []string{oci.FormatPlatform(rec.Platform)})
	}
	return s.open(ref.String(), rec)
}

func (s *Images) byTag(ref oci.Reference) (*Stored, error) {
	var id oci.Digest
	ok, err := s.store.Ref(refTag+ref.String(), &id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, s.unknown(ref.String())
	}
	return s.byID(id)
}

func (s *Images) byManifest(ref oci.Reference) (*Stored, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	for _, rec := range all {
		named := slices.ContainsFunc(rec.Tags, func(t oci.Reference) bool { return t.Repository() == ref.Repository() })
		if rec.Manifest == ref.Digest() && named {
			return rec, nil
		}
	}
	return nil, s.unknown(ref.String())
}

// byID reads the record of an image, if all of the image is there.
func (s *Images) byID(id oci.Digest) (*Stored, error) {
	var rec Stored
	ok, err := s.store.Ref(refImage+id.String(), &rec)
	if err != nil {
		return nil, err
	}
	if !ok || rec.ID != id || !s.store.HasBlob(rec.ID) || !s.store.HasBlob(rec.Manifest) {
		return nil, s.unknown(id.String())
	}
	for _, l := range rec.Layers {
		if _, err := s.store.Layer(l); errors.Is(err, cache.ErrNotFound) {
			return nil, s.unknown(id.String())
		} else if err != nil {
			return nil, err
		}
	}
	return &rec, nil
}

func (s *Images) withTags(rec *Stored) (*Stored, error) {
	tags, err := s.tags()
	if err != nil {
		return nil, err
	}
	rec.Tags = tags[rec.ID]
	return rec, nil
}

// tags returns all tags by image.
func (s *Images) tags() (map[oci.Digest][]oci.Reference, error) {
	names, err := s.store.Refs()
	if err != nil {
		return nil, err
	}
	return s.tagsOf(names)
}

func (s *Images) tagsOf(names []string) (map[oci.Digest][]oci.Reference, error) {
	slices.Sort(names)
	tags := map[oci.Digest][]oci.Reference{}
	for _, name := range names {
		tag, ok := strings.CutPrefix(name, refTag)
		if !ok {
			continue
		}
		var id oci.Digest
		if ok, err := s.store.Ref(name, &id); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		ref, err := oci.ParseReference(tag)
		if err != nil {
			return nil, err
		}
		tags[id] = append(tags[id], ref)
	}
	return tags, nil
}

func (s *Images) unknown(name string) error {
	return &NotFoundError{Ref: name, Reason: "it is not in the local store"}
}

func isNotFound(err error) bool {
	var nf *NotFoundError
	return errors.As(err, &nf)
}
