package sandbox

// Scene is what a probe is to reach for: things outside of the sandbox.
type Scene struct {
	Process int    // that started this one
	File    string // that this user can read and write
	Folder  string // in which this user can make files
	Socket  string // of UNIX, on which somebody listens
	Address string // of TCP, on which somebody listens
}

// Result is what came of an act.
type Result struct {
	Group   string // of acts
	Act     string
	Refused bool
	Granted bool   // that is not refused is right: drivers need it
	Said    string // by the kernel
}

// Groups of acts, in the order in which results have them.
const (
	GroupFiles      = "files"
	GroupProcesses  = "processes"
	GroupNetwork    = "network"
	GroupPrivileges = "privileges"
	GroupKernel     = "kernel"
)

// NetworkScene is whom a probe of ProbeNetwork is to reach: sockets of another process of this machine. One that is
// empty is not there.
type NetworkScene struct {
	TCP      string // address and port
	TCP6     string
	UDP      string // answers as a name server does
	UDP6     string
	Unix     string // path of a socket
	Abstract string // name of a socket, with an @
	Datagram string // name of a socket that takes datagrams

	// Accepted is the descriptor of a connection that somebody has opened to this process; 0 if there is none.
	Accepted int
}
