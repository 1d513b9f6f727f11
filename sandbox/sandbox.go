// Package sandbox starts a process that can access only what an engine needs: the files of its model, the
// libraries of the system, and, if it uses GPUs, their devices and one folder to write to. It can start no other
// process, reach no network, and has no privileges, even if root starts it.
//
// A process is confined in two steps. Start passes the rules to the process, whose first act is Enter: it gives up
// privileges, confines itself to files (Landlock) and runs its program again, which only then reads anything. When
// it has its connections, Seal reduces the system calls to an allow list (seccomp). What a kernel cannot enforce is
// in the error that Seal returns, and never ignored. Probe tries what must be refused.
package sandbox

import (
	"encoding/json"
	"fmt"
	"os/exec"
)

// Rules list what a confined process may access in addition to what every engine needs.
type Rules struct {
	// Files are the files that it may read.
	Files []string

	// Handed are such files by the names that descriptors which it is handed have in the process.
	Handed []string

	// Cache is the only folder that it may write to; empty for none. CreateCache creates it.
	Cache string

	// Devices grants what the drivers of GPUs need.
	Devices bool

	// Scratch grants files in memory, to which it may write.
	Scratch bool

	// Variables are those that its environment has besides what Environ lets through, for Probe.
	Variables []string
}

// rulesVariable and stateVariable carry the rules into a process, and over its second beginning what came of them.
const (
	rulesVariable = "SERVE_SANDBOX_RULES"
	stateVariable = "SERVE_SANDBOX_STATE"
)

// state is what Enter has done, for Seal.
type state struct {
	Devices   bool
	Scratch   bool
	MPS       bool // NVIDIA's MPS is in use, whose daemon is reached by sockets
	Variables []string
	Failed    string // why the process is not confined; empty if it is
}

// entered is the state of this process; nil if Start did not start it.
var entered *state

// Start starts a command that runs this program, or another that calls Enter first, confined by the rules.
func Start(cmd *exec.Cmd, r Rules) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("describe the sandbox: %w", err)
	}
	cmd.Env = append(without(cmd.Environ(), rulesVariable), rulesVariable+"="+string(text))
	return cmd.Start()
}
