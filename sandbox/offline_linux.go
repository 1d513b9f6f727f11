package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// errMPS is what Disconnect cannot enforce where MPS is in use.
var errMPS = errors.New("connections: NVIDIA's MPS is in use, which engines connect to; a filter cannot tell its " +
	"sockets from others")

// Disconnect takes from this process, with all its threads and whatever it starts from now on, the means to send
// anything to anybody who did not connect to it: it cannot connect, and has no sockets that do without. Nothing gives
// them back; a later call can take more. The error says what is not in force.
func Disconnect(o Offline) error {
	mps := o.Devices && mpsInUse()
	filter, err := offlineFilter(runtime.GOARCH, o, mps)
	if err != nil {
		return err
	}
	if err := install(filter); err != nil {
		return err
	}
	if mps {
		return errMPS
	}
	return nil
}

// offlineFilter returns the program that decides on every system call of a process without connections. All are
// allowed but those in its lists, and those that nobody knew when they were made.
func offlineFilter(arch string, o Offline, mps bool) ([]unix.SockFilter, error) {
	number, known := arches[arch]
	if !known {
		return nil, fmt.Errorf("system calls: not supported on %s", arch)
	}
	limited := limitedCalls(o)
	refused := slices.Clone(connecting)
	if mps {
		refused = slices.DeleteFunc(refused, func(call uint32) bool { return call == unix.SYS_CONNECT })
	}

	program := beginning(number, absentOffline)
	for _, c := range limited {
		program = append(program, c.program()...)
		refused = append(refused, c.number)
	}
	for _, call := range refused {
		program = append(program, jump(unix.BPF_JEQ, call, 0, 1), refuse(unix.EPERM))
	}
	return append(program, answer(seccompAllow)), nil
}
