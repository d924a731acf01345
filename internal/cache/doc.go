// Package cache is all state on disk: blobs, layers, records, facts, image
// references, temporary directories and locks, in one directory that many
// processes share without a daemon.
//
// It never decides what to build and never interprets what it stores. It never
// trusts a file because of its name: small files are sealed with their own
// hash, blobs are verified when read whole, and a file that does not hold what
// it should counts as absent.
//
// # On disk (format 1)
//
//	version            the format, a line of text
//	synced             boot id; its mtime is when the store was last known to be on disk whole
//	blobs/sha256/HEX   immutable bytes under their digest
//	layers/HEX/        layer.json (sealed) and fs/, an overlay-ready directory
//	records/HH/HEX     sealed JSON: what the step with that key made
//	facts/KIND/HH/HEX  sealed JSON: small things derived from content, by name
//	contexts/HEX       what package tree remembers of the files of a context directory
//	refs/HEX           sealed JSON: a name given by a user, and what it stands for
//	locks/HEX          flock files, present while held
//	tmp/ID/, tmp/ID.lock  one process's unfinished work; the lock is held while it lives
//
// # Invariants
//
//   - Everything becomes visible by one rename, complete or not at all.
//   - What a process had not finished is under its own tmp directory; the next
//     process to open the store removes it once the owner's lock is free.
//   - After a reboot, whatever is newer than the last sync of the store is
//     removed before anything is read: the file system may have kept a name and
//     lost its bytes.
//
// Start reading at [Store], then [Record].
package cache
