//go:build linux && !amd64

package sandbox

// Other architectures have no acts of their own.
var legacyActs []act
