package host

import (
	"net"
	"os"
	"strings"
)

// Names returns the names by which other machines call this one, listening on an address or a name:
// that, its own name, and what multicast DNS makes of it; and those by which containers call the machine that
// they run on. Nobody else can have a name in .internal.
func Names(address string) (names []string) {
	names = append(names, "host.docker.internal", "host.containers.internal")
	if net.ParseIP(address) == nil {
		names = append(names, address)
	}
	own, err := os.Hostname()
	if err != nil || own == "" {
		return names
	}
	short, _, _ := strings.Cut(own, ".")
	return append(names, own, short, short+".local")
}
