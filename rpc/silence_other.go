//go:build !linux

package rpc

import "net"

// limitSilence does nothing: the system's own limits hold.
func limitSilence(*net.TCPConn) error { return nil }
