package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// What the driver does not know is refused, with its name.
func TestUnknownPartsOfTheSpec(t *testing.T) {
	for want, change := range map[string]func(*specs.Spec){
		"no command to run": func(s *specs.Spec) { s.Process = nil },
		"network namespace /x: joining one is not supported": func(s *specs.Spec) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.NetworkNamespace, Path: "/x"}}
		},
		"user namespace: not supported": func(s *specs.Spec) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.UserNamespace}}
		},
		"capability CAP_FLY: not known": func(s *specs.Spec) { s.Process.Capabilities.Ambient = []string{"CAP_FLY"} },
		"limit RLIMIT_FLY: no such limit": func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_FLY"}}
		},
		"mount /a: option fly: not known": func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", Type: "bind", Source: "/", Options: []string{"fly"}}}
		},
		"mount /a: source: stat /nowhere": func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", Type: "bind", Source: "/nowhere"}}
		},
		"mount a: the destination has to be an absolute path": func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "a", Type: "tmpfs"}}
		},
		"mount /a: option fly": func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", Type: "tmpfs", Options: []string{"fly=1"}}}
		},
		"mount /a: flyfs": func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/a", Type: "flyfs"}} },
	} {
		b := newBox(t)
		b.spec.Process.Args = []string{"true"}
		change(b.spec)
		_, err := b.native.Run(t.Context(), &b.c, IO{})
		if err == nil || !strings.Contains(err.Error(), "sandbox: "+want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestReadOnlyRoot(t *testing.T) {
	b := newBox(t).withConf()
	b.c.Rootfs.ReadOnly = true
	out := b.run("echo x > /dev/shm/x && cat /etc/resolv.conf; touch /x || echo refused")
	if !strings.HasPrefix(out, "from the host\n") || !strings.HasSuffix(out, "refused\n") {
		t.Errorf("%s", out)
	}
	if w := b.written(); len(w) != 0 {
		t.Errorf("written: %v", w)
	}
}

func TestBindMounts(t *testing.T) {
	b := newBox(t)
	source := filepath.Join(b.dir, "source")
	if err := errors.Join(os.Mkdir(source, 0o755), os.WriteFile(source+"/in", []byte("in\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	b.spec.Mounts = append(b.spec.Mounts,
		specs.Mount{Destination: "/rw", Source: source, Options: []string{"rbind", "rw"}},
		specs.Mount{Destination: "/deep/below/ro", Type: "bind", Source: source, Options: []string{"ro"}},
		specs.Mount{Destination: "/rw/tmp", Type: "tmpfs", Options: []string{"size=4k", "mode=1777"}})
	if got := b.run("cat /rw/in /deep/below/ro/in; echo out > /rw/out; touch /deep/below/ro/x || echo refused; touch /rw/tmp/x"); !strings.HasPrefix(got, "in\nin\n") || !strings.HasSuffix(got, "refused\n") {
		t.Errorf("%s", got)
	}
	if got, err := os.ReadFile(source + "/out"); err != nil || string(got) != "out\n" {
		t.Errorf("written through the mount: %q, %v", got, err)
	}
	if w := b.written(); len(w) != 0 {
		t.Errorf("written to the root: %v", w)
	}
}

// A user with ambient capabilities keeps them; a process with no_new_privs has
// its filter all the same.
func TestAmbientCapabilitiesAndNoNewPrivileges(t *testing.T) {
	b := newBox(t)
	p := b.spec.Process
	p.User.UID, p.NoNewPrivileges = 1000, true
	p.Capabilities.Ambient = []string{"CAP_NET_BIND_SERVICE"}
	p.Capabilities.Inheritable = []string{"CAP_NET_BIND_SERVICE"}
	status := b.run("cat /proc/self/status")
	for _, want := range []string{"CapAmb:\t0000000000000400", "CapEff:\t0000000000000400", "CapInh:\t0000000000000400", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want+"\n") {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
}

func TestLimits(t *testing.T) {
	b := newBox(t)
	b.spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 77, Hard: 99}}
	if got := b.run("ulimit -n; ulimit -Hn; umask"); got != "77\n99\n0022\n" {
		t.Errorf("limits: %q", got)
	}
}

func TestInterpreterThatIsMissing(t *testing.T) {
	b := newBox(t)
	for name, text := range map[string]string{"script": "#!/usr/bin/nothing\n", "text": "just text\n"} {
		if err := os.WriteFile(filepath.Join(b.layer(), "bin", name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]struct {
		code int
		text string
	}{
		"script":  {127, `exec "script": the file is there, its interpreter or dynamic loader is not`},
		"text":    {126, `exec "text": exec format error`},
		"missing": {127, `exec "missing": executable file not found in $PATH`},
		"/no/way": {127, `exec "/no/way": no such file or directory`},
	} {
		var e *ExecError
		if _, _, err := b.try(name); !errors.As(err, &e) || e.Code() != want.code || e.Error() != want.text {
			t.Errorf("%s: %v, want %s", name, err, want.text)
		}
	}
}

func TestForwardedSignals(t *testing.T) {
	b := newBox(t)
	b.spec.Process.Args = []string{"sh", "-c", "trap 'exit 42' TERM; echo ready; while :; do sleep 0.01; done"}
	signals := make(chan os.Signal, 1)
	ready := writerFunc(func([]byte) { signals <- syscall.SIGTERM })
	status, err := b.native.Run(t.Context(), &b.c, IO{Stdout: ready, Signals: signals})
	if err != nil || status != (Status{Code: 42}) {
		t.Errorf("%v, %v, want exit code 42", status, err)
	}
	ready = func([]byte) { signals <- syscall.SIGKILL }
	status, err = b.native.Run(t.Context(), &b.c, IO{Stdout: ready, Signals: signals})
	if err != nil || status != (Status{Signal: syscall.SIGKILL}) {
		t.Errorf("%v, %v, want it killed", status, err)
	}
}

// The root's own entry and its directories' modes are the image's, whatever the
// umask of the builder is.
func TestUmaskOfTheBuilder(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	b := newBox(t).withConf()
	for _, dir := range []string{b.dir + "/upper", b.layer(), b.layer() + "/bin"} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(b.layer()+"/bin/busybox", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(b.dir+"/conf", 0o644); err != nil {
		t.Fatal(err)
	}
	b.spec.Process.User.UID = 1000
	if got := b.run("cat /etc/resolv.conf; echo > /dev/null; ls /dev/shm /proc > /dev/null; ls -ld /etc"); !strings.HasPrefix(got, "from the host\ndrwxr-xr-x") {
		t.Errorf("%s", got)
	}
}
