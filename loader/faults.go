package loader

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"serve/engine/llama"
	"serve/engine/remote"
	"serve/machine"
)

// faultSign is what drivers and llama.cpp say of a kind of fault.
type faultSign struct {
	kind   remote.FaultKind
	words  *regexp.Regexp
	remedy string // if another process does not help
}

// What helps where another process does not.
const (
	remedyDriver = "the driver was changed while the old one is loaded: reboot, or unload the old kernel modules while " +
		"nothing uses the GPU"
	remedySuspend = "after a suspend, load nvidia_uvm again while nothing uses the GPU (rmmod nvidia_uvm; modprobe " +
		"nvidia_uvm), or reboot"
	remedyGone = "nvidia-smi shows whether the driver still has it, and dmesg | grep -i -e xid -e amdgpu why not; a " +
		"container that lost its devices must be created again; a GPU that fell off the bus needs a reboot"
	remedyBusy = "another program has the GPU for itself, or MPS does not run: nvidia-smi lists its processes and mode"
	remedySick = "dmesg | grep -i -e xid -e amdgpu says what the driver saw; if it goes on, reset the GPU (nvidia-smi " +
		"--gpu-reset while nothing uses it) or reboot"
	remedyRemote = "see whether the other machine and its server run"
)

// faultSigns are looked for in this order: the more special first.
var faultSigns = []faultSign{
	{remote.FaultOfMemory, regexp.MustCompile(`(?i)out of memory|OutOf(Device)?Memory|OUT_OF_DEVICE_MEMORY|` +
		`OUT_OF_RESOURCES|ALLOC_FAILED|resource allocation failed|memory allocation of size \d+ failed|` +
		`unable to allocate (CUDA|ROCm|Vulkan|SYCL|MUSA|Metal|MTL|RPC)\S* buffer|` +
		`failed to allocate (CUDA|ROCm|Vulkan|SYCL|MUSA|Metal|MTL|RPC)\S* buffer`), ""},
	{remote.FaultOfDevice, regexp.MustCompile(`(?i)driver/library version mismatch|driver version is insufficient|` +
		`unsupported display driver|forward compatibility was attempted`), remedyDriver},
	{remote.FaultOfDevice, regexp.MustCompile(`(?i)CUDA error: unknown error|error 999\b`), remedySuspend},
	{remote.FaultOfDevice, regexp.MustCompile(`(?i)fallen off the bus|GPU is lost|no (CUDA|ROCm)-capable device|` +
		`NVML: Unknown Error|initialization error|invalid device ordinal|system not yet initialized|` +
		`OS call failed|UR_RESULT_ERROR_DEVICE_LOST`), remedyGone},
	{remote.FaultOfDevice, regexp.MustCompile(`(?i)busy or unavailable|MPS (client|server)`), remedyBusy},
	{remote.FaultOfDevice, rpcLost, remedyRemote},
	{remote.FaultOfContext, regexp.MustCompile(`(?i)(CUDA|ROCm|HIP|MUSA|SYCL|cuBLAS) error\b|Error_?DeviceLost|` +
		`DeviceLostError|device lost|Memory access fault by GPU`), remedySick},
}

// signOf returns the sign in a line, if there is one. A line of the Go runtime is about this process's own memory.
func signOf(line string) (faultSign, bool) {
	if strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "runtime: ") {
		return faultSign{}, false
	}
	for _, sign := range faultSigns {
		if sign.words.MatchString(line) {
			return sign, true
		}
	}
	return faultSign{}, false
}

// quietLine matches lines of a log that say of no fault: they quote the model, or what was survived.
var quietLine = regexp.MustCompile(`^time=\S+ level=(DEBUG|INFO)\b`)

// numbered matches the number of a device in llama.cpp's messages.
var numbered = regexp.MustCompile(`(?:current device: |on device )(\d+)`)

// deviceFault returns what the last lines of a process say of its GPUs, and the name of the one that they are about;
// empty if they do not say. The last sign counts: what was survived before is not why the process ended.
func deviceFault(log []string, gpus []llama.Device) (f remote.Fault, device string) {
	if len(gpus) == 0 {
		return remote.Fault{}, ""
	}
	for i, line := range slices.Backward(log) {
		sign, found := signOf(line)
		if !found || quietLine.MatchString(line) {
			continue
		}

		for _, near := range log[i:min(i+2, len(log))] {
			if number := numbered.FindStringSubmatch(near); number != nil && device == "" {
				device = withNumber(gpus, number[1])
			}
		}
		text := messageOf(line)
		if sign.remedy != "" {
			text += "; " + sign.remedy
		}
		return remote.Fault{Kind: sign.kind, Err: &DeviceError{Text: text}}, device
	}
	return remote.Fault{}, ""
}

// withNumber returns the name of the GPU with a number, if there is only one.
func withNumber(gpus []llama.Device, number string) (name string) {
	for _, d := range gpus {
		if strings.TrimLeft(d.Name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") != number {
			continue
		}
		if name != "" {
			return ""
		}
		name = d.Name
	}
	return name
}

// logMessage matches the message in a line of an engine's log.
var logMessage = regexp.MustCompile(`msg="((?:[^"\\]|\\.)*)"`)

// messageOf returns what a line of an engine's log says.
func messageOf(line string) string {
	if m := logMessage.FindStringSubmatch(line); m != nil {
		return m[1]
	}
	return line
}

// withRemedy adds to a driver's messages what to do about them, if they are known.
func withRemedy(text string) string {
	if sign, found := signOf(text); found && sign.remedy != "" && !strings.Contains(text, sign.remedy) {
		return text + "; " + sign.remedy
	}
	return text
}

// firstMargin is what the next plan leaves free besides on a GPU that ran out of memory. It is doubled each time.
const firstMargin = 512 << 20

// margins are what a model's plans leave free on GPUs that ran out of memory, besides the reserve.
type margins struct {
	mu   sync.Mutex
	more map[string]uint64 // by the GPU's name
	told string            // about the last time; empty once it was asked for
}

// widen has the next plan leave more free on a GPU; on all of them if its name is empty.
func (m *margins) widen(device string, gpus []llama.Device) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.more == nil {
		m.more = map[string]uint64{}
	}

	var told []string
	for _, d := range gpus {
		if device != "" && d.Name != device {
			continue
		}
		m.more[d.Name] = max(firstMargin, 2*m.more[d.Name])
		told = append(told, fmt.Sprintf("%s ran out of memory, and %s more are left free there", d.Name,
			machine.FormatSize(m.more[d.Name])))
	}
	m.told = strings.Join(told, "; ")
}

// now returns the margins, for a plan.
func (m *margins) now() map[string]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.more)
}

// tell returns what has happened since it was called last; empty for nothing.
func (m *margins) tell() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	told := m.told
	m.told = ""
	return told
}
