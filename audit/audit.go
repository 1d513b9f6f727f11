// Package audit is a log of who has asked a server for what, and of what was done to the server. Its records are leaves
// of a Merkle tree whose root is signed with every commit, so that whoever has the public key finds a record that was
// changed, removed, added or moved. It knows no HTTP and no other package of ours.
//
// A log is a folder:
//
//	key            the log's signing key, a signer key of the note format (0600)
//	key.pub        its verifier key
//	digest.key     the key of the digests of texts (0600)
//	lock           held by whoever writes
//	N.jsonl        a segment, N its first record: a line for each record, and after each commit one with a checkpoint
//	N.pruned       what pruning has left of a segment: the hashes of its records, and its last checkpoint
package audit

import (
	"errors"
	"time"
)

// Recorder is what writes records. A *Log is one.
type Recorder interface {
	// Append returns when a record is durable, or with an error that says why it is not.
	Append(*Record) error
	// Note adds a record without waiting for it.
	Note(*Record)
	// Refused notes a request that was refused, or counts it if there are many like it.
	Refused(*Record)
	// Digest returns the digest of a subject without content. Only who has the log's key can compute it.
	Digest(of Subject) *Digest
	// State says how the log is.
	State() State
}

// State is how a log is.
type State struct {
	// Failing is why records cannot be written; nil while they can.
	Failing error
	// Continues says that work goes on all the same.
	Continues bool
	Records   int64 // of the log
	Lost      int64 // that could not be written, since the start
}

// Refuses reports whether work has to be refused, because it cannot be recorded.
func (s State) Refuses() bool { return s.Failing != nil && !s.Continues }

// ErrFailing means that a record cannot be written.
var ErrFailing = errors.New("the audit log cannot be written")

// ErrKey means that a key is missing or cannot be used.
var ErrKey = errors.New("unusable key of an audit log")

// ErrProof means that a log, or a proof, is not what its key has signed.
var ErrProof = errors.New("the audit log does not verify")

// Event is something that happens to a server, in a word, for packages that know nothing else of records.
type Event struct {
	Kind   Kind
	Object string            // what it happened to, such as the name of a model
	Error  string            // why it failed; empty if it has not
	Detail map[string]string // what else there is to say
}

// Record returns the event as a record.
func (e Event) Record() *Record {
	return &Record{
		Kind:   e.Kind,
		Object: e.Object,
		Error:  e.Error,
		Detail: e.Detail,
	}
}

// now is time.Now, as it is recorded.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
