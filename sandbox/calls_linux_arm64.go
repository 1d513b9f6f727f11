package sandbox

// This architecture has no older calls.
var (
	legacy, legacyForDrivers []uint32
	legacyOpening            []call
)
