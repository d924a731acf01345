package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"stagecraft/internal/testkit"
)

// parallel has two branches with RUN, COPY and COPY --from that meet, and an
// image whose files say whether each step did its work whole.
const parallel = `FROM busybox AS left
COPY src /src
RUN for i in $(seq 10); do cat /src/* > /left-$i; done
RUN sleep 0.05 MARKER; cat /left-* | sha256sum > /left.sum

FROM busybox AS right
RUN for i in $(seq 60); do mkdir -p /tree/$i && echo $i > /tree/$i/file; done; sleep 0.05 MARKER
RUN rm -r /tree/1* && find /tree -type f | sort | sha256sum > /right.sum

FROM busybox
COPY --from=left /left* /src/0 /left/
COPY --from=right /tree /tree
COPY --from=right /right.sum /
RUN find /left /tree -type f | sort | xargs sha256sum > /all.sum
CMD ["cat", "/all.sum", "/right.sum"]
`

func parallelFiles(marker string) map[string]string {
	files := map[string]string{"Dockerfile": strings.ReplaceAll(parallel, "MARKER", marker)}
	for n := range 20 {
		files[fmt.Sprintf("src/%d", n)] = strings.Repeat(fmt.Sprintf("line of file %d\n", n), 500)
	}
	return files
}

// A build that is killed at any moment leaves nothing that runs or is mounted,
// and the next build on its store makes the image that an undisturbed one makes.
func TestKilledBuild(t *testing.T) {
	t.Parallel()
	const kills = 20
	busybox := "busybox=oci-layout://" + testkit.BusyboxLayout(t)
	// sleep adds up its arguments, so a number marks the sandbox's processes.
	marker := fmt.Sprintf("0.000000%d", os.Getpid())
	args := []string{"build", "-t", "app", "--build-context", busybox, "."}

	calm := newProgram(t, parallelFiles(marker))
	start := time.Now()
	calm.succeed(args...)
	normal := time.Since(start)
	want := calm.succeed("run", "app").stdout
	if strings.Count(want, "\n") != 62 { // 12 in /left, 49 in /tree, and a sum
		t.Fatalf("the undisturbed build's image prints %q", want)
	}

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, an undisturbed build takes %v", seed, normal)
	random := rand.New(rand.NewPCG(seed, 0))
	disturbed := newProgram(t, parallelFiles(marker))
	for n := range kills {
		// On an empty store each time, but for every fourth kill, which meets
		// what the one before left.
		if n%4 != 0 {
			disturbed.store = filepath.Join(t.TempDir(), "store")
		}
		after := normal * time.Duration(n*1000+random.IntN(1000)) / (kills * 1000)
		killAfter(t, disturbed, after, args)
		wantNothingRunning(t, disturbed.store, marker)
		disturbed.succeed(args...)
		if got := disturbed.succeed("run", "app").stdout; got != want {
			t.Errorf("seed %d: killed after %v, then built again: the image prints something else:\n%s", seed, after, cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")))
		}
		if err := checkStore(disturbed.store); err != nil {
			t.Errorf("seed %d: killed after %v, then built again: %v", seed, after, err)
		}
		if n%4 == 2 {
			disturbed.succeed("rmi", "app") // the next build meets a store without image
		}
	}
}

// killAfter starts a build and kills it, with no chance to clean up.
func killAfter(t *testing.T, p *program, after time.Duration, args []string) {
	t.Helper()
	c := p.command(append([]string{args[0], "--no-cache"}, args[1:]...)...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	if err := c.Process.Signal(syscall.SIGKILL); err != nil && err != os.ErrProcessDone {
		t.Fatal(err)
	}
	c.Wait() //nolint:errcheck // killed, or just done
}

// wantNothingRunning wants that within a moment no process has the marker among
// its arguments, or anything of the store mounted.
func wantNothingRunning(t *testing.T, store, marker string) {
	t.Helper()
	var left []string
	for range 200 {
		if left = running(store, marker); len(left) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("left running: %s", strings.Join(left, "; "))
}

func running(store, marker string) (left []string) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return []string{err.Error()}
	}
	for _, dir := range processes {
		arguments, _ := os.ReadFile(dir + "/cmdline") // one that ends meanwhile has nothing
		mounts, _ := os.ReadFile(dir + "/mountinfo")
		if strings.Contains(string(arguments), marker) || strings.Contains(string(mounts), store) {
			left = append(left, dir+" "+strings.ReplaceAll(string(arguments), "\x00", " "))
		}
	}
	return left
}

// Builds of one Dockerfile that start together on one store share the work:
// each step runs once.
func TestBuildsTogether(t *testing.T) {
	const together = 8
	busybox := "busybox=oci-layout://" + testkit.BusyboxLayout(t)
	p := newProgram(t, parallelFiles("0"))
	outcomes := make([]outcome, together)
	var group sync.WaitGroup
	for n := range outcomes {
		c := p.command("build", "-t", fmt.Sprintf("app:%d", n), "--iidfile", fmt.Sprintf("id-%d", n), "--build-context", busybox, ".")
		group.Go(func() { outcomes[n] = finish(t, c) })
	}
	group.Wait()
	var ids []string
	ran, cached, pulled := 0, 0, 0
	step := regexp.MustCompile(`(\d+) steps? run, (\d+) cached`)
	for n, o := range outcomes {
		found := step.FindStringSubmatch(o.stderr)
		if o.code != 0 || found == nil {
			t.Fatalf("build %d of %d: exit code %d\n%s", n, together, o.code, o.stderr)
		}
		var r, c int
		fmt.Sscan(found[1], &r)
		fmt.Sscan(found[2], &c)
		ran, cached, pulled = ran+r, cached+c, pulled+strings.Count(o.stderr, "pull and unpack")
		id, err := os.ReadFile(filepath.Join(p.dir, fmt.Sprintf("id-%d", n)))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, string(id))
	}
	const steps = 9
	if ran != steps || cached != (together-1)*steps || pulled != 1 {
		t.Errorf("%d steps ran, %d were cached, the base was unpacked %d times; want %d, %d, 1",
			ran, cached, pulled, steps, (together-1)*steps)
	}
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("the builds made different images: %v", ids)
			break
		}
	}
	wantNothingRunning(t, p.store, "no marker")
}
