package remote

import "golang.org/x/sys/unix"

// longNice is by how much the niceness of a thread grows that makes a long call: of a processor that others want, too,
// it gets a tenth.
const longNice = 10

// Of niceness: the lowest priority, and what the system call returns for none.
const (
	lowest = 19
	none   = 20
)

// niceness returns the calling thread's.
func niceness() (int, error) {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	return none - n, err
}

// lowerPriority has the calling thread give way to others, for ever: no thread may raise its own priority again. If
// that cannot be, nothing depends on it but how long others wait.
func lowerPriority() {
	if n, err := niceness(); err == nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, min(n+longNice, lowest))
	}
}
