package plan

import (
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// refuse names what the stages that are needed ask for and the builder cannot
// do, before anything is fetched. What depends on variables is refused when it
// is built.
func (p *planner) refuse() error {
	for _, s := range p.stages {
		if !s.Needed {
			continue
		}
		for _, c := range s.src.Commands {
			if what := unsupported(c); what != "" {
				e := p.refusef(c, "%s is not supported yet", what)
				e.Hint = "leave it out, where the stage can do without"
				return e
			}
		}
	}
	return nil
}

// unsupported names the first thing in a command that cannot be done; "" is
// none.
func unsupported(c instructions.Command) string {
	switch c := c.(type) {
	case *instructions.OnbuildCommand:
		return "ONBUILD"
	case *instructions.RunCommand:
		for _, flag := range [...]string{"mount", "device"} {
			if slices.Contains(c.FlagsUsed, flag) {
				return "RUN --" + flag
			}
		}
		if mode := instructions.GetSecurity(c); mode != instructions.SecuritySandbox {
			return "RUN --security=" + mode
		}
	case *instructions.CopyCommand:
		return firstUsed("COPY --", map[string]bool{"link": c.Link, "parents": c.Parents, "exclude": len(c.ExcludePatterns) > 0})
	case *instructions.AddCommand:
		return firstUsed("ADD --", map[string]bool{
			"link":         c.Link,
			"exclude":      len(c.ExcludePatterns) > 0,
			"checksum":     c.Checksum != "",
			"keep-git-dir": c.KeepGitDir != nil,
			"unpack":       c.Unpack != nil,
		})
	}
	return ""
}

func firstUsed(prefix string, flags map[string]bool) string {
	var used []string
	for flag, is := range flags {
		if is {
			used = append(used, prefix+flag)
		}
	}
	if len(used) == 0 {
		return ""
	}
	return slices.Min(used)
}

// remote matches what ADD would fetch: URLs, and git's user@host:path.
var remote = regexp.MustCompile(`^(?:(?:https?|git|ssh)://|[\w.-]+@[\w.-]+:)`)

// refuseRemote refuses sources that are not local.
func (p *planner) refuseRemote(c instructions.Command, sources []string) error {
	for _, s := range sources {
		if !strings.Contains(s, ":") || !remote.MatchString(s) { // the pattern alone is slow on long words
			continue
		}
		e := p.refusef(c, "a remote source is not supported yet: %s", s)
		if _, ok := c.(*instructions.CopyCommand); ok {
			e = p.refusef(c, "COPY cannot take a URL: %s", s)
		}
		e.Hint = "fetch it before the build, or with RUN"
		return e
	}
	return nil
}

// refuseTriggers refuses a base image with ONBUILD instructions.
func (p *planner) refuseTriggers(s *stage) error {
	if s.Base == nil || len(s.Base.Config.Config.OnBuild) == 0 {
		return nil
	}
	e := p.failFrom(s, "image %s has ONBUILD triggers, which are not supported yet", s.From)
	e.Hint = "write them into the Dockerfile: " + strings.Join(s.Base.Config.Config.OnBuild, "; ")
	return e
}
