package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// resolveUser fills in what the root knows of the user: numbers, further groups
// and the home directory. The files are the image's; nothing that they say can
// give more than the capabilities that are left anyway.
func (s *setup) resolveUser() error {
	name := s.User.Username
	if name == "" {
		name = fmt.Sprintf("%d:%d", s.User.UID, s.User.GID)
	}
	u, err := lookupUser(name)
	if err != nil {
		return fmt.Errorf("user %s: %w", name, err)
	}
	if s.User.Username != "" {
		s.User.UID, s.User.GID = uint32(u.Uid), uint32(u.Gid)
		for _, gid := range u.Sgids {
			if gid != u.Gid {
				s.User.AdditionalGids = append(s.User.AdditionalGids, uint32(gid))
			}
		}
	}
	if !slices.ContainsFunc(s.Env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") }) {
		s.Env = append(s.Env, "HOME="+u.Home)
	}
	return nil
}

func lookupUser(name string) (*user.ExecUser, error) {
	passwd, err := openAccounts("/etc/passwd")
	if err != nil {
		return nil, err
	}
	defer passwd.Close()
	group, err := openAccounts("/etc/group")
	if err != nil {
		return nil, err
	}
	defer group.Close()
	return user.GetExecUser(name, &user.ExecUser{Home: "/"}, passwd, group)
}

// maxAccounts is how much of a file of users or groups is read, in bytes.
const maxAccounts = 16 << 20

// openAccounts opens a file of users or groups. One that is not there is empty;
// one that is not a regular file is not read: it may never end.
func openAccounts(path string) (io.ReadCloser, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return io.NopCloser(strings.NewReader("")), nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(fmt.Errorf("%s: not a regular file", path), err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, maxAccounts), f}, nil
}
