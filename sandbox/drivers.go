package sandbox

import (
	"errors"
	"os"
	"slices"
	"strings"
)

const (
	deviceOrder = "CUDA_DEVICE_ORDER"
	busOrder    = "PCI_BUS_ID" // the numbers that nvidia-smi shows

	// peerToPeer makes ggml copy directly between GPUs: on many machines such copies silently
	// fail, and any value, even 0, turns it on.
	peerToPeer = "GGML_CUDA_P2P"
)

// DriverEnviron returns an environment for GPU drivers: cards are numbered as in
// nvidia-smi, and harmful variables are left out. ignored has their names.
func DriverEnviron(environ []string) (result, ignored []string) {
	result = without(slices.Clone(environ), peerToPeer)
	if len(result) < len(environ) {
		ignored = []string{peerToPeer}
	}

	ordered := slices.ContainsFunc(environ, func(pair string) bool { return strings.HasPrefix(pair, deviceOrder+"=") })
	if !ordered {
		result = append(result, deviceOrder+"="+busOrder)
	}
	return result, ignored
}

// SetDriverEnviron changes this process's own environment to one for drivers.
func SetDriverEnviron() error {
	err := os.Unsetenv(peerToPeer)
	if _, set := os.LookupEnv(deviceOrder); !set {
		err = errors.Join(err, os.Setenv(deviceOrder, busOrder))
	}
	return err
}
