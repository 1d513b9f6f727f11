package host

import (
	"os"
	"runtime"
	"runtime/debug"

	"serve/machine"
	"serve/server"
)

// Parts of the memory that this process could have if it were alone. Models take most of it.
const (
	bodyPart   = 32 // of it may be bodies of requests
	heapPart   = 4  // of it may be this process's heap, before its garbage is collected more often
	leastHeap  = 256 << 20
	workerRoom = 8 << 30 // for each worker: it may decode an image of 50 million pixels, which takes a tenth of that
	leastWork  = 2
)

// LimitByMemory sets what of a server's limits depends on the memory of this machine or its control group.
func LimitByMemory(o *server.Options) {
	memory := machine.Memory()
	o.Workers = runtime.GOMAXPROCS(0)
	if memory == 0 {
		return // unknown
	}

	if o.BodyMemory == 0 {
		o.BodyMemory = int64(memory / bodyPart)
	}
	o.Workers = min(o.Workers, max(leastWork, int(memory/workerRoom)))
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(max(int64(memory/heapPart), leastHeap))
	}
}
