package egress

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// brokerVariable makes this program a broker.
const brokerVariable = "SERVE_BROKER"

const (
	maxAddress = 256             // bytes of an address
	maxReply   = 512             // bytes of what a broker says
	localTime  = 5 * time.Second // for a connection to this machine
)

// errNotLocal is a broker's answer to an address of another machine.
var errNotLocal = errors.New("the address is not on this machine")

// Enter makes this process a Broker if StartBroker has started it, and then does not return. It is to be called first
// in main.
func Enter() {
	if os.Getenv(brokerVariable) == "" {
		return
	}
	if err := serveBroker(os.NewFile(3, "broker")); err != nil {
		fmt.Fprintln(os.Stderr, "error: the broker for connections to this machine:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// dialLocal connects to an address of this machine, and refuses others: names are not looked up.
func dialLocal(address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if !IsLocal(host) {
		return nil, errNotLocal
	}

	d := net.Dialer{Timeout: localTime}
	if host != "localhost" {
		return d.Dial("tcp", address)
	}
	c, err := d.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		if other, failed := d.Dial("tcp", net.JoinHostPort("::1", port)); failed == nil {
			return other, nil
		}
	}
	return c, err
}
