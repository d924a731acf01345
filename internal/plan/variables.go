package plan

import (
	"maps"
	"slices"
	"strings"

	"stagecraft/internal/oci"
)

// variables is an ordered set of NAME=value pairs. A fork shares its storage
// with the original until it is written to, and a list that was lent out is
// never changed: that keeps a thousand RUNs with the same environment cheap.
// The zero value is empty and ready to use.
type variables struct {
	list    []string
	index   map[string]int // position in list
	longest int            // no value is longer, in bytes
	shared  bool           // index and list belong to someone else as well
	lent    bool           // list was given away
	copied  int            // pairs copied since takeCopied
}

// variablesOf reads a list as images hold it; the last of equal names wins, in
// the place of the first.
func variablesOf(list []string) *variables {
	v := new(variables)
	for _, kv := range list {
		name, value, _ := strings.Cut(kv, "=")
		v.set(name, value)
	}
	return v
}

func (v *variables) get(name string) (string, bool) {
	i, ok := v.index[name]
	if !ok {
		return "", false
	}
	return v.list[i][len(name)+1:], true
}

func (v *variables) set(name, value string) {
	if v.shared || v.index == nil {
		v.copied += len(v.list)
		v.list, v.index, v.shared, v.lent = slices.Clone(v.list), maps.Clone(v.index), false, false
		if v.index == nil {
			v.index = make(map[string]int)
		}
	}
	v.longest = max(v.longest, len(value))
	i, ok := v.index[name]
	if !ok {
		v.index[name] = len(v.list)
		v.list = append(v.list, name+"="+value)
		return
	}
	if v.lent {
		v.copied += len(v.list)
		v.list, v.lent = slices.Clone(v.list), false
	}
	v.list[i] = name + "=" + value
}

// lend returns the pairs in order. The slice stays as it is whatever is set
// afterwards.
func (v *variables) lend() []string {
	v.lent = true
	return slices.Clip(v.list)
}

// takeCopied returns how many pairs were copied since it was last asked.
func (v *variables) takeCopied() int {
	n := v.copied
	v.copied = 0
	return n
}

// fork returns a copy. The original is not to be written to any more.
func (v *variables) fork() *variables {
	return &variables{list: slices.Clip(v.list), index: v.index, longest: v.longest, shared: true, lent: true}
}

// names lists the names, in order.
func (v *variables) names() []string {
	names := make([]string, len(v.list))
	for i, kv := range v.list {
		names[i], _, _ = strings.Cut(kv, "=")
	}
	return names
}

// platformArgs are the ARGs that every build has. They hold in FROM lines, and
// in a stage that declares them.
func platformArgs(o Options, target string) *variables {
	if target == "" {
		target = "default"
	}
	v := new(variables)
	for _, a := range [...][2]string{
		{"BUILDPLATFORM", oci.FormatPlatform(o.Host)},
		{"BUILDOS", o.Host.OS},
		{"BUILDOSVERSION", o.Host.OSVersion},
		{"BUILDARCH", o.Host.Architecture},
		{"BUILDVARIANT", o.Host.Variant},
		{"TARGETPLATFORM", oci.FormatPlatform(o.Platform)},
		{"TARGETOS", o.Platform.OS},
		{"TARGETOSVERSION", o.Platform.OSVersion},
		{"TARGETARCH", o.Platform.Architecture},
		{"TARGETVARIANT", o.Platform.Variant},
		{"TARGETSTAGE", target},
	} {
		if given, ok := o.BuildArgs[a[0]]; ok {
			a[1] = given
		}
		v.set(a[0], a[1])
	}
	return v
}

// proxyNames are the build args that reach every RUN without an ARG, and leave
// no trace.
var proxyNames = [...]string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}

// proxyOf returns the proxy build args in both spellings, upper case and lower,
// since programs differ in which they read.
func proxyOf(args map[string]string) []string {
	var env []string
	for _, name := range proxyNames {
		lower := strings.ToLower(name)
		value, ok := args[name]
		if v, has := args[lower]; has {
			value, ok = v, true
		}
		if ok {
			env = append(env, name+"="+value, lower+"="+value)
		}
	}
	return env
}

// predefinedArg reports whether a build arg has a meaning without an ARG.
func predefinedArg(name string) bool {
	if slices.Contains(proxyNames[:], strings.ToUpper(name)) {
		return true
	}
	for _, prefix := range [...]string{"BUILDKIT_", "SOURCE_DATE_EPOCH"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	_, ok := platformArgs(Options{}, "").get(name)
	return ok
}
