package machine

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"runtime"
	"strings"
)

// ProcessorName identifies a kind of CPU: by what the system calls it and by its instruction
// sets, of which a virtual machine may see fewer than there are.
func ProcessorName() string {
	info, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOOS + " " + runtime.GOARCH
	}
	defer info.Close()

	// The fields of the first processor. Arm's has no name but numbers.
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
