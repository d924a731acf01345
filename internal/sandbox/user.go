package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// resolveUser fills in what the root knows of the user: numbers, further groups
// and the home directory. The files are the image's; nothing that they say can
// give more than the capabilities that are left anyway.
func resolveUser(p *specs.Process) error {
	name := p.User.Username
	if name == "" {
		name = fmt.Sprintf("%d:%d", p.User.UID, p.User.GID)
	}
	u, err := user.GetExecUserPath(name, &user.ExecUser{Home: "/"}, "/etc/passwd", "/etc/group")
	if err != nil {
		return fmt.Errorf("user %s: %w", name, err)
	}
	if p.User.Username != "" {
		p.User.UID, p.User.GID = uint32(u.Uid), uint32(u.Gid)
		for _, gid := range u.Sgids {
			if gid != u.Gid {
				p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(gid))
			}
		}
	}
	if !slices.ContainsFunc(p.Env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") }) {
		p.Env = append(p.Env, "HOME="+u.Home)
	}
	return nil
}
