package sandbox

// Offline says what a process that opens no connections still does.
type Offline struct {
	// Listens leaves it sockets of TCP and UNIX, to listen on. Those that it has open stay open in any case.
	Listens bool

	// Devices leaves it, and engines that it starts, what the drivers of GPUs need: sockets of UNIX and, where
	// NVIDIA's MPS is in use, connections of them, which a filter cannot tell from others.
	Devices bool
}
