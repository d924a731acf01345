package cache

import (
	"bytes"
	"crypto/sha256"
	"strconv"

	"github.com/opencontainers/go-digest"
	"stagecraft/internal/oci"
)

// keyVersion is part of every key: a change of what keys are made of, or of
// what steps do with the same inputs, raises it and makes every record a miss.
const keyVersion = "stagecraft key 1"

// Line is one input of a step, by name.
type Line struct {
	Name  string `json:"n"`
	Value string `json:"v"`
}

// Key is everything that a step's result depends on, as named lines. Why a
// step missed is the difference of two such lists.
type Key []Line

// Add appends a line. Order counts, names may repeat.
func (k *Key) Add(name, value string) { *k = append(*k, Line{Name: name, Value: value}) }

// Digest is the hash of the lines under the key format's version. Names and
// values are quoted, so no two lists write the same bytes.
func (k Key) Digest() oci.Digest {
	var b bytes.Buffer
	b.WriteString(keyVersion)
	b.WriteByte('\n')
	var buf []byte
	for _, l := range k {
		buf = strconv.AppendQuote(buf[:0], l.Name)
		buf = append(buf, ' ')
		buf = strconv.AppendQuote(buf, l.Value)
		buf = append(buf, '\n')
		b.Write(buf)
	}
	sum := sha256.Sum256(b.Bytes())
	return digest.NewDigestFromBytes(digest.SHA256, sum[:])
}
