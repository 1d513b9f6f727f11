//go:build !unix

package hub

// freeSpace is unknown on this system; a full disk is an error only when a write fails.
func freeSpace(string) (int64, bool) { return 0, false }
