package audit

import (
	"path/filepath"
	"testing"
)

// BenchmarkAppend writes records from 32 goroutines to a real folder.
func BenchmarkAppend(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "audit")
	if _, err := Init(dir); err != nil {
		b.Fatal(err)
	}
	l, err := Open(dir, Options{Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			d := NewAnswerDigest(l.Digest)
			for range 64 {
				d.Say(" token")
			}
			err := l.Append(&Record{
				Kind: RequestEnd,
				ID:   "req_0123456789abcdef",
				Who:  &Who{Key: "key_1", Name: "alice", Tenant: "ward"},
				Work: []Work{{Model: "demo", Answers: []Answer{d.Answer()}}},
			})
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}
