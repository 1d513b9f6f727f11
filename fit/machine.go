package fit

// Machine is what a plan needs to know of a machine.
type Machine struct {
	Devices []Device // GPUs, in the order in which layers are spread
	Host    Device
}

// Device is a pool of memory.
type Device struct {
	Name    string
	Unified bool   // its memory is the host's
	Free    uint64 // no more than Total counts, if that is known
	Total   uint64 // 0 with Free 0: the device does not report its memory
	Reserve uint64 // of what is free
	Limit   uint64 // most that may be taken; 0 for no limit
	Base    uint64 // taken by a process that uses the device: a driver's context
	// HostBase is what it takes of the host's memory.
	HostBase uint64
}

// Known reports whether a device reports its memory.
func (d *Device) Known() bool { return d.Free > 0 || d.Total > 0 }

// Usable returns what a device has free. Some drivers report more than there is.
func (d *Device) Usable() uint64 {
	if d.Total > 0 {
		return min(d.Free, d.Total)
	}
	return d.Free
}

// unlimited is the room of a device about which nothing is known.
const unlimited = 1 << 50

// Room returns the bytes that may be taken.
func (d *Device) Room() uint64 {
	room := uint64(unlimited)
	if d.Known() {
		room = d.Usable() - min(d.Usable(), d.Reserve)
	}
	if d.Limit > 0 {
		room = min(room, d.Limit)
	}
	return room
}

// rooms returns the room of each GPU, without what a process takes of it. One that does not report its memory is
// trusted with no more than the least of those that do have, nor the host.
func (m *Machine) rooms() []uint64 {
	least := m.Host.Room()
	for i := range m.Devices {
		if m.Devices[i].Known() {
			least = min(least, m.Devices[i].Room())
		}
	}

	list := make([]uint64, len(m.Devices))
	for i := range m.Devices {
		d := &m.Devices[i]
		room := min(d.Room(), least)
		if d.Known() {
			room = d.Room()
		}
		list[i] = room - min(room, d.Base)
	}
	return list
}
