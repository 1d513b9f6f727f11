//go:build !linux

package egress

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
)

// Broker is for systems where a process can give up the means to connect.
type Broker struct{}

var errNoBroker = errors.New("only on Linux")

// StartBroker returns an error.
func StartBroker(*exec.Cmd) (*Broker, error) { return nil, errNoBroker }

// Dial returns an error.
func (*Broker) Dial(context.Context, string) (net.Conn, error) { return nil, errNoBroker }

func serveBroker(*os.File) error { return errNoBroker }
