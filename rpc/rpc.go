// Package rpc reaches the devices of other processes, which serve rpc offers, and offers this machine's: by ggml's RPC
// protocol, which C speaks in engines' processes. This package decides which addresses may be used, opens and accepts
// the connections, and hands them over; no engine's process can connect or listen.
//
// The protocol has neither authentication nor encryption, and each end can make the other do anything that its sandbox
// allows: everybody who reaches a worker must be trusted with the weights, the prompts and the answers.
package rpc

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"serve/bind"
)

// limits is what an address of another kind would have to be told.
const limits = "ggml's RPC protocol has no authentication and no encryption, and whoever reaches a worker can read " +
	"weights and what is computed, and take the process over"

// advice is what to do where the network is not trusted.
const advice = "use an address of this machine or of a private network that only trusted machines reach; between " +
	"others, use a tunnel such as WireGuard"

// trusted reports whether an address belongs to this machine or to a private network.
func trusted(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
}

// ParseAddresses reads a list of workers: HOST:PORT, separated by commas.
func ParseAddresses(text string) (list []string, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		address, err := parseAddress(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if slices.Contains(list, address) {
			return nil, fmt.Errorf("names %s twice: a worker offers all of its devices at once", address)
		}
		list = append(list, address)
	}
	return list, nil
}

// FormatAddresses returns what ParseAddresses reads.
func FormatAddresses(list []string) string { return strings.Join(list, ",") }

func parseAddress(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return "", errors.New("must be HOST:PORT, separated by commas")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("has the port %q in %s, which is not a number from 1 to 65535", port, text)
	}
	if ip, err := netip.ParseAddr(host); err == nil && !trusted(ip) {
		return "", fmt.Errorf("has the public address %s, which is refused: %s", text, limits)
	}
	return net.JoinHostPort(strings.ToLower(host), port), nil
}

// CheckListen refuses to offer devices on an address that machines outside of a private network may reach. The warning
// says who may use them; it is empty if only this machine may.
func CheckListen(address net.Addr) (warning string, err error) {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return "", fmt.Errorf("%s is no TCP address", address)
	}
	ip, _ := netip.AddrFromSlice(tcp.IP)
	switch {
	case ip.Unmap().IsLoopback():
		return "", nil
	case trusted(ip):
		return fmt.Sprintf("every machine that reaches %s can use its devices: %s", address, limits), nil
	}
	return "", &bind.Error{
		Text: fmt.Sprintf("other machines may reach %s, and it is not an address of a private network: %s", address, limits),
		Todo: advice,
	}
}
