package wire

const (
	EventStream = "text/event-stream" // the content type

	eventData = "data: "
	eventEnd  = "\n\n"

	// Ping is a comment, which clients ignore.
	Ping = ": ping\n\n"
)

// BeginEvent begins an event; its data, a single line, follows.
func BeginEvent(b []byte) []byte { return append(b, eventData...) }

// EndEvent ends an event after its data.
func EndEvent(b []byte) []byte { return append(b, eventEnd...) }

// AppendEvent appends an event with a single line of data. The name may be empty.
func AppendEvent(b []byte, name string, data []byte) []byte {
	if name != "" {
		b = append(b, "event: "...)
		b = append(b, name...)
		b = append(b, '\n')
	}
	return EndEvent(append(BeginEvent(b), data...))
}
