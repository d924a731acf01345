package oci

import "testing"

func TestParseReference(t *testing.T) {
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, c := range []struct{ in, full, familiar, host, path, tag, digest string }{
		{"debian", "docker.io/library/debian:latest", "debian:latest", "docker.io", "library/debian", "latest", ""},
		{"me/app:1", "docker.io/me/app:1", "me/app:1", "docker.io", "me/app", "1", ""},
		{"localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest", "localhost:5000", "app", "latest", ""},
		{"ghcr.io/a/b@" + digest, "ghcr.io/a/b@" + digest, "ghcr.io/a/b@" + digest, "ghcr.io", "a/b", "", digest},
		{"a:1@" + digest, "docker.io/library/a:1@" + digest, "a:1@" + digest, "docker.io", "library/a", "1", digest},
	} {
		r, err := ParseReference(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		got := []string{r.String(), r.Familiar(), r.Host(), r.Path(), r.Tag(), r.Digest().String()}
		want := []string{c.full, c.familiar, c.host, c.path, c.tag, c.digest}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: got %q, want %q", c.in, got[i], want[i])
			}
		}
	}
	for _, bad := range []string{"", "Upper", "a b", "a:", "a@sha256:12", "../x"} {
		if r, err := ParseReference(bad); err == nil {
			t.Errorf("%q: got %s, want an error", bad, r)
		}
	}
	if s := (Reference{}).String(); s != "" {
		t.Errorf("zero reference: %q", s)
	}
}

func TestPlatforms(t *testing.T) {
	for in, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/x86_64": "linux/amd64", "linux/arm64/v8": "linux/arm64", "linux/arm/v7": "linux/arm/v7",
	} {
		p, err := ParsePlatform(in)
		if err != nil || FormatPlatform(p) != want {
			t.Errorf("%s: %s, %v, want %s", in, FormatPlatform(p), err, want)
		}
	}
	v7, v6 := Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, Platform{OS: "linux", Architecture: "arm", Variant: "v6"}
	if !MatchPlatform(v7, v6) || MatchPlatform(v6, v7) {
		t.Error("v7 runs v6, and not the other way round")
	}
}
