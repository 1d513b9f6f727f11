package chatclient

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// ollamaPort is where Ollama's clients look for a server.
const ollamaPort = "11434"

// ListTimeout is how long a server that was not named on purpose may take to list its models.
const ListTimeout = 5 * time.Second

// OllamaAddress returns the base URL that a value of OLLAMA_HOST means: scheme and port may be missing,
// and an address to listen on everywhere is this machine.
func OllamaAddress(value string) (string, error) {
	value = strings.TrimSpace(value)
	scheme, rest, ok := strings.Cut(value, "://")
	port := ollamaPort
	switch {
	case !ok:
		rest = value
		scheme = "http"
	case scheme == "https":
		port = "443"
	case scheme == "http":
		port = "80"
	}

	u, err := url.Parse(scheme + "://" + rest)
	if err != nil || u.Hostname() == "" && u.Port() == "" || scheme != "http" && scheme != "https" {
		return "", fmt.Errorf("%q is not an address such as 127.0.0.1:%s", value, ollamaPort)
	}

	name := cmp.Or(u.Hostname(), "127.0.0.1")
	if ip := net.ParseIP(name); ip != nil && ip.IsUnspecified() {
		name = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(name, cmp.Or(u.Port(), port)), nil
}
