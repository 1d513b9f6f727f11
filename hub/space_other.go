//go:build !unix

package hub

// freeSpace is not known here; a full disk is an error when it is met.
func freeSpace(string) (int64, bool) { return 0, false }
