// Package sandbox runs one process in an isolated root and waits for it.
//
// The driver [Native] is pure Go: it executes this very binary again in new
// mount, pid, ipc and uts namespaces; there, before the process that was asked
// for takes its place, the root is mounted and everything given up that a RUN
// step must not have.
//
// It knows nothing of images, layers or Dockerfiles, and it never mounts
// anything where the host could see it: all mounts live in the namespace of the
// process and end with it, also when the builder is killed.
//
// # Invariants
//
//   - The process is pid 1 of its pid namespace. When it ends, or when the
//     builder ends in whatever way, the kernel kills everything it started.
//   - No descriptor, environment variable or working directory of the builder
//     reaches it, and no process of ours stays beside it.
//   - A path of the image is only ever resolved inside the image's root.
//   - What is made only to mount something on leaves no trace in the upper
//     directory.
//
// Start reading at [Container], then [Native.Run] for the outer half and
// runInit for the inner one.
package sandbox
