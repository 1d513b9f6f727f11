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
