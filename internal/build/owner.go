package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"stagecraft/internal/tree"
)

// ownerIn reads the "user[:group]" of --chown. Numbers are taken as they are;
// names are looked up in the root's own /etc/passwd and /etc/group. Without a
// group, a user by name brings the one of passwd, and a number stands for both,
// as in the reference. "" is no owner.
func ownerIn(root *tree.View, owner string) (*tree.Owner, error) {
	if owner == "" {
		return nil, nil
	}
	name, group, hasGroup := strings.Cut(owner, ":")
	o := &tree.Owner{}
	if id, err := strconv.ParseUint(name, 10, 31); err == nil {
		o.UID, o.GID = int(id), int(id)
	} else {
		u, err := findUser(root, name)
		if err != nil {
			return nil, fmt.Errorf("owner %s: %w", owner, err)
		}
		o.UID, o.GID = u.Uid, u.Gid
	}
	if !hasGroup {
		return o, nil
	}
	if id, err := strconv.ParseUint(group, 10, 31); err == nil {
		o.GID = int(id)
		return o, nil
	}
	g, err := findGroup(root, group)
	if err != nil {
		return nil, fmt.Errorf("owner %s: %w", owner, err)
	}
	o.GID = g.Gid
	return o, nil
}

func findUser(root *tree.View, name string) (user.User, error) {
	f, err := openIn(root, "/etc/passwd")
	if err != nil {
		return user.User{}, err
	}
	defer f.Close()
	found, err := user.ParsePasswdFilter(f, func(u user.User) bool { return u.Name == name })
	if err != nil {
		return user.User{}, err
	}
	if len(found) == 0 {
		return user.User{}, fmt.Errorf("there is no user %q in the /etc/passwd of the stage", name)
	}
	return found[0], nil
}

func findGroup(root *tree.View, name string) (user.Group, error) {
	f, err := openIn(root, "/etc/group")
	if err != nil {
		return user.Group{}, err
	}
	defer f.Close()
	found, err := user.ParseGroupFilter(f, func(g user.Group) bool { return g.Name == name })
	if err != nil {
		return user.Group{}, err
	}
	if len(found) == 0 {
		return user.Group{}, fmt.Errorf("there is no group %q in the /etc/group of the stage", name)
	}
	return found[0], nil
}

func openIn(root *tree.View, path string) (*os.File, error) {
	_, node, err := root.Resolve(path, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the stage has no %s; use numbers", path)
	}
	if err != nil {
		return nil, err
	}
	return root.Open(node)
}
