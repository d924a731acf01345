package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"stagecraft/internal/oci"
	"stagecraft/internal/testkit"
)

func TestValidateTar(t *testing.T) {
	file := func(name string) testkit.Entry { return testkit.Entry{Name: name, Mode: 0o644} }
	dir := func(name string) testkit.Entry { return testkit.Entry{Name: name, Mode: 0o755} }
	link := func(name, to string) testkit.Entry { return testkit.Entry{Name: name, HardLink: to} }
	header := func(h tar.Header) testkit.Entry { return testkit.Entry{Header: &h} }
	for name, test := range map[string]struct {
		entries []testkit.Entry
		want    string // "" for a good one
	}{
		"good":               {[]testkit.Entry{dir("a/"), file("a/b"), link("a/c", "a/b"), {Name: "s", Link: "/abs/../x"}, file("a/.wh.gone"), file("a/.wh..wh..opq")}, ""},
		"dot names":          {[]testkit.Entry{dir("./"), dir("./a/"), file("./a/b")}, ""},
		"missing parent":     {[]testkit.Entry{file("a/b/c")}, ""},
		"absolute":           {[]testkit.Entry{file("/a")}, "clean relative"},
		"above":              {[]testkit.Entry{file("../a")}, "clean relative"},
		"inside above":       {[]testkit.Entry{file("a/../../b")}, "clean relative"},
		"double slash":       {[]testkit.Entry{file("a//b")}, "clean relative"},
		"twice":              {[]testkit.Entry{file("a"), file("a")}, "there already"},
		"twice with dot":     {[]testkit.Entry{file("a"), file("./a")}, "there already"},
		"whiteout and file":  {[]testkit.Entry{file("a"), file(".wh.a")}, "there already"},
		"dir after content":  {[]testkit.Entry{file("a/b"), dir("a/")}, "after its content"},
		"below a file":       {[]testkit.Entry{file("a"), file("a/b")}, "no directory"},
		"below a symlink":    {[]testkit.Entry{{Name: "a", Link: "/etc"}, file("a/b")}, "no directory"},
		"link to later":      {[]testkit.Entry{link("a", "b"), file("b")}, "no earlier file"},
		"link outside":       {[]testkit.Entry{link("a", "../b")}, "no earlier file"},
		"link to directory":  {[]testkit.Entry{dir("d/"), link("a", "d")}, "no earlier file"},
		"empty whiteout":     {[]testkit.Entry{file(".wh.")}, "not a whiteout"},
		"whiteout with data": {[]testkit.Entry{{Name: ".wh.a", Data: []byte("x")}}, "not a whiteout"},
		"overlay attribute": {[]testkit.Entry{header(tar.Header{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o755,
			PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}})}, "overlay file system"},
		"odd type": {[]testkit.Entry{header(tar.Header{Name: "a", Typeflag: tar.TypeCont})}, "no file of a layer"},
	} {
		t.Run(name, func(t *testing.T) {
			err := validateTar(bytes.NewReader(testkit.Tar(test.entries...)))
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	whole := testkit.Tar(file("a"))
	if err := validateTar(bytes.NewReader(append(slices.Clone(whole), "rest"...))); err == nil {
		t.Error("bytes after the end mark were accepted")
	}
	for _, length := range []int{0, 700, len(whole) - endMark} {
		if err := validateTar(bytes.NewReader(whole[:min(length, len(whole))])); err == nil {
			t.Errorf("a tar of %d bytes, cut at %d, was accepted", len(whole), length)
		}
	}
}

func FuzzValidateTar(f *testing.F) {
	f.Add(testkit.RandomLayer(1, 3, 50))
	for _, tar := range testkit.HostileTars("marker") {
		f.Add(tar)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if validateTar(bytes.NewReader(b)) != nil {
			return
		}
		for r := tar.NewReader(bytes.NewReader(b)); ; {
			h, err := r.Next()
			if err != nil {
				return
			}
			if strings.HasPrefix(h.Name, "/") || strings.HasPrefix(h.Name, "../") || strings.Contains(h.Name, "/../") {
				t.Errorf("entry %q was accepted", h.Name)
			}
		}
	})
}

// TestValidateLayoutFinds breaks a good layout in one way after the other.
func TestValidateLayoutFinds(t *testing.T) {
	store := openStore(t)
	img := built(t, store, 1)
	inIndex := func(change func(*oci.Index)) func(testing.TB, string) {
		return func(t testing.TB, dir string) {
			index := readIndex(t, dir)
			change(index)
			b, err := json.Marshal(index)
			if err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(dir, v1.ImageIndexFile), b)
		}
	}
	for name, test := range map[string]struct {
		damage func(testing.TB, string)
		want   string
	}{
		"stray blob": {func(t testing.TB, dir string) {
			put(t, filepath.Join(dir, blobName(oci.FromBytes(nil))), nil)
		}, "nothing refers"},
		"stray file": {func(t testing.TB, dir string) { put(t, filepath.Join(dir, "README"), nil) }, "nothing refers"},
		"no version": {func(t testing.TB, dir string) { remove(t, filepath.Join(dir, v1.ImageLayoutFile)) }, "no OCI layout"},
		"other version": {func(t testing.TB, dir string) {
			put(t, filepath.Join(dir, v1.ImageLayoutFile), []byte(`{"imageLayoutVersion":"2.0"}`))
		}, "version"},
		"missing layer":  {func(t testing.TB, dir string) { remove(t, filepath.Join(dir, blobName(img.Manifest.Layers[0].Digest))) }, "has no blob"},
		"missing config": {func(t testing.TB, dir string) { remove(t, filepath.Join(dir, blobName(img.ID()))) }, "has no blob"},
		"changed manifest": {func(t testing.TB, dir string) {
			put(t, filepath.Join(dir, blobName(img.Digest)), bytes.Replace(img.RawManifest, []byte("gzip"), []byte("zstd"), 1))
		}, "digest"},
		"empty":         {inIndex(func(i *oci.Index) { i.Manifests = nil }), "lists nothing"},
		"listed twice":  {inIndex(func(i *oci.Index) { i.Manifests = append(i.Manifests, i.Manifests[0]) }), "twice"},
		"wrong size":    {inIndex(func(i *oci.Index) { i.Manifests[0].Size++ }), "bytes"},
		"wrong type":    {inIndex(func(i *oci.Index) { i.Manifests[0].MediaType = dockerManifest }), "media type"},
		"wrong machine": {inIndex(func(i *oci.Index) { i.Manifests[0].Platform.Architecture = "arm64" }), "made for"},
		"index type":    {inIndex(func(i *oci.Index) { i.MediaType = dockerManifestList }), "media type"},
		"index version": {inIndex(func(i *oci.Index) { i.SchemaVersion = 1 }), "schemaVersion"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			writeTo(t, img, dir, "app:1")
			test.damage(t, dir)
			if err := ValidateLayout(t.Context(), dir); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func put(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestValidateImageFinds assembles images that are wrong in one way.
func TestValidateImageFinds(t *testing.T) {
	store := openStore(t)
	p := pack(t, store, builtLayer(t, store, testkit.RandomLayer(1, 4, 100)), PackOptions{})
	other := pack(t, store, builtLayer(t, store, testkit.RandomLayer(2, 4, 100)), PackOptions{})
	for name, test := range map[string]struct {
		damage func(*oci.Image, *Packed)
		want   string
	}{
		"no platform":      {func(c *oci.Image, _ *Packed) { c.OS = "" }, "platform"},
		"wrong diffID":     {func(_ *oci.Image, p *Packed) { p.DiffID = other.DiffID }, "the config says"},
		"wrong size":       {func(_ *oci.Image, p *Packed) { p.Descriptor.Size-- }, "longer than"},
		"wrong type":       {func(_ *oci.Image, p *Packed) { p.Descriptor.MediaType = v1.MediaTypeImageLayerZstd }, "but the blob is gzip"},
		"Docker's type":    {func(_ *oci.Image, p *Packed) { p.Descriptor.MediaType = dockerLayerGzip }, "in a manifest of type"},
		"nothing is wrong": {func(*oci.Image, *Packed) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			config, layer := testConfig(1), p
			test.damage(&config, &layer)
			img, err := Assemble(store, config, []Packed{layer})
			if err != nil {
				t.Fatal(err)
			}
			err = ValidateImage(t.Context(), img)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
		// What was found damaged is dropped from the store.
		p = pack(t, store, builtLayer(t, store, testkit.RandomLayer(1, 4, 100)), PackOptions{})
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":"sha256:00"},"layers":[]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"platform":{"os":"linux","architecture":"amd64"}}]}`))
	f.Add([]byte(`{"schemaVersion":1,"fsLayers":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		index, err := isIndex("fuzz", "", b)
		if err != nil {
			return
		}
		if index {
			list, err := parseIndex("fuzz", b)
			if err == nil {
				choosePlatform("fuzz", list, amd64)
			}
			return
		}
		m, err := parseManifest("fuzz", b)
		if err != nil {
			return
		}
		for _, d := range append(m.Layers, m.Config) {
			if d.Size < 0 || d.Digest.Validate() != nil {
				t.Errorf("descriptor %+v was accepted", d)
			}
		}
	})
}
