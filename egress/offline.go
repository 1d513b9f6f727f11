package egress

import (
	"context"
	"errors"
	"strings"

	"serve/sandbox"
	"serve/worker"
)

// What a command needs of the network under --offline, for Offline.Needs.
const (
	Listens = "listens" // it opens sockets to listen on
	Asks    = "asks"    // it asks servers on this machine, by a Broker
)

// Disconnection says what a process needs that is to connect to nobody.
type Disconnection struct {
	Needs   string   // Listens, Asks or both
	Devices bool     // engines may use GPUs
	Environ []string // of the broker
	Manager *Manager // of the service

	Prepare func(context.Context) error // what GPUs need to have done before privileges are given up
	Warn    func(format string, args ...any)
}

// Disconnect takes the means to connect from this process and all that it starts. What they are needed for is done
// before. It warns about what of that could not be done, and about what the kernel does not enforce: this process then
// is offline by its own code alone.
func (n *Net) Disconnect(ctx context.Context, o Disconnection) {
	n.Offline = true
	n.devices = o.Devices
	n.warn = o.Warn
	listens := strings.Contains(o.Needs, Listens)

	failed := o.Manager.Open()
	if listens && o.Devices {
		failed = errors.Join(failed, o.Prepare(ctx))
	}
	if strings.Contains(o.Needs, Asks) {
		cmd, err := worker.Command(o.Environ)
		if err == nil {
			n.Broker, err = StartBroker(cmd)
		}
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		o.Warn("what --offline forbids later could not be done before: %v", failed)
	}
	n.restrict(sandbox.Offline{Listens: listens, Devices: o.Devices})
}

// Listening tells that a process has opened what it listens on. If Disconnect has been called, it can open nothing
// more.
func (n *Net) Listening() {
	if n.warn != nil {
		n.restrict(sandbox.Offline{Devices: n.devices})
	}
}

// restrict has the kernel refuse connections, and warns if it does not.
func (n *Net) restrict(o sandbox.Offline) {
	if err := sandbox.Disconnect(o); err != nil {
		n.warn("--offline is not fully enforced by the kernel, only by serve itself: %v", err)
	}
}
