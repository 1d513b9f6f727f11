package machine

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"runtime"
	"strings"
)

// ProcessorName identifies a kind of CPU by its name and its instruction sets, some of which
// may be hidden in a virtual machine.
func ProcessorName() string {
	info, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOOS + " " + runtime.GOARCH
	}
	defer info.Close()

	// The fields of the first processor. On Arm it has numbers instead of a name.
	var name []string
	flags := ""
	lines := bufio.NewScanner(info)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && lines.Text() != "" {
		key, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "model name":
			name = []string{value}
		case "CPU implementer", "CPU part":
			name = append(name, value)
		case "flags", "Features":
			flags = value
		}
	}
	hash := sha256.Sum256([]byte(flags))
	return strings.Join(append(name, runtime.GOARCH, hex.EncodeToString(hash[:4])), " ")
}
