package loader

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"serve/engine/llama"
	"serve/sandbox"
)

// probeLine is a line in the output of a process that tests devices: first the devices that it
// sees, then a line before each act on a device, and one with the result. So if a driver crashes
// the process, it is known what it was doing.
type probeLine struct {
	Seen   *DeviceList   `json:",omitempty"`
	Device *llama.Device `json:",omitempty"`
	Act    string        `json:",omitempty"`
	Done   bool          `json:",omitempty"`
	Free   uint64        `json:",omitempty"` // bytes, with Done
	Failed string        `json:",omitempty"` // why, with Done
}

// WriteProbe tests each device, in the process that ProbeDevices starts.
func WriteProbe(h *Hardware, to io.Writer) error {
	// As in an engine; CheckSandbox reports whether that works.
	_ = sandbox.Seal()

	out := json.NewEncoder(to)
	list, err := h.listDevices()
	if err != nil {
		return err
	}
	if hasBackend(list.GPUs(), "CUDA") {
		if err := h.LoadCUBLAS(); err != nil {
			list.NoCUBLAS = err.Error()
		}
	}
	if err := out.Encode(probeLine{Seen: &list}); err != nil {
		return err
	}

	for i, d := range list.Devices {
		if d.Type == "accel" {
			continue // a library for the CPU, without memory and with only some operations
		}
		free, _, err := h.Probe(i, func(act string) { _ = out.Encode(probeLine{Device: &d, Act: act}) })
		line := probeLine{Device: &d, Done: true, Free: free}
		if err != nil {
			line.Failed = err.Error()
		}
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// DeviceResult is the result of testing a device.
type DeviceResult struct {
	Device llama.Device
	Free   uint64
	Failed string // why, and empty if it works
}

// ProbeDevices tests the devices in a process that is confined like an engine. It also returns
// the devices that the process saw.
func (w *Workers) ProbeDevices(ctx context.Context) (seen DeviceList, results []DeviceResult, err error) {
	cmd, cache, err := w.command(quiet(FlagProbe)...)
	if err != nil {
		return seen, nil, err
	}

	ctx, cancel := context.WithTimeout(ctx, driverTime)
	defer cancel()
	out, said, err := confined(ctx, cmd, w.rules(cache))
	return readProbe(out, err, said)
}

// readProbe reads the output of a process that tested devices and ended with err. said has the
// last lines of its log.
func readProbe(out []byte, err error, said []string) (seen DeviceList, results []DeviceResult, failed error) {
	var now *probeLine // what it was doing
	lines := json.NewDecoder(bytes.NewReader(out))
	for {
		var line probeLine
		if e := lines.Decode(&line); e != nil {
			// A process that died may have left half a line.
			if err == nil && !errors.Is(e, io.EOF) {
				err = e
			}
			break
		}

		switch {
		case line.Seen != nil:
			seen = *line.Seen
		case line.Done && line.Device != nil:
			results = append(results, DeviceResult{*line.Device, line.Free, line.Failed})
			now = nil
		case line.Device != nil:
			now = &line
		}
	}

	if err == nil {
		return seen, results, nil
	}
	if now != nil {
		why := fmt.Sprintf("%s: the process ended: %v%s", now.Act, err, JoinWarnings(said))
		return seen, append(results, DeviceResult{Device: *now.Device, Failed: why}), nil
	}
	return seen, results, fmt.Errorf("the process that tests devices ended: %w%s", err, JoinWarnings(said))
}
