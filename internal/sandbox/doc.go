// Package sandbox runs one process in an isolated root and waits for it.
//
// The driver [Native] is pure Go: it executes this very binary again in new
// mount, pid, ipc, uts and cgroup namespaces; there, before the process that was
// asked for takes its place, the root is mounted and everything given up that a
// RUN step must not have. Other drivers (an OCI runtime) fit behind [Driver]:
// what to run is said in the terms of the OCI runtime specification.
//
// It knows nothing of images, layers or Dockerfiles, and it never mounts
// anything where the host could see it: all mounts live in the namespace of the
// process and end with it, also when the builder is killed.
//
// # Invariants
//
//   - The process is pid 1 of its pid namespace. When it ends, or when the
//     builder ends in whatever way, the kernel kills everything it started. A
//     guard process, one for all sandboxes of a builder and gone with it, sees to
//     that where the process changed its user.
//   - No descriptor, environment variable, keyring, working directory or
//     terminal of the builder reaches it, and no process of ours is inside.
//   - A path of the image is only ever resolved inside the image's root, and
//     never through a magic link of /proc; nothing of the image runs before all
//     privileges are given up.
//   - What is made only to mount something on leaves no trace in the upper
//     directory.
//   - What a spec asks for and the driver does not know is an error.
//
// # What it does not protect
//
// The host's network is the process's own unless the spec has a network
// namespace: services on the loopback interface are in reach. There is no limit
// on memory, processes or disk.
//
// Start reading at [Container], then [Native.Run] for the outer half and
// becomeCommand for the inner one.
package sandbox
