package egress

import (
	"fmt"
	"net"
	"os"
	"sync"
)

// managerVariable names the socket of the service manager, by systemd's protocol.
const managerVariable = "NOTIFY_SOCKET"

// Manager is the manager of this service, such as systemd, which is on this machine. Its zero value is ready.
type Manager struct {
	mu   sync.Mutex
	conn net.Conn
}

// Open connects to the manager, if there is one, so that it can be notified when this process has no more means to
// connect.
func (m *Manager) Open() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open()
}

func (m *Manager) open() error {
	name := os.Getenv(managerVariable)
	if name == "" || m.conn != nil {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("connect to the service manager: %w", err)
	}
	m.conn = conn
	return nil
}

// Notify tells the manager, if there is one, the state of the service. A manager that was started anew is connected to
// anew.
func (m *Manager) Notify(state string) error {
	m.mu.Lock()
	defer m.mu.Unlock()

	var err error
	for range 2 {
		if err = m.open(); err != nil || m.conn == nil {
			return err
		}
		if _, err = m.conn.Write([]byte(state)); err == nil {
			return nil
		}
		m.conn.Close()
		m.conn = nil
	}
	return err
}
