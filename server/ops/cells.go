package ops

import (
	"fmt"
	"strconv"
	"strings"

	"serve/machine"
)

// Headings are those of the cells of a model.
var Headings = []string{
	"MODEL", "STATE", "ENGINE", "DEVICE", "MEMORY", "KV CELLS", "PREFIX CACHE", "RUNNING", "QUEUE", "TOKENS/S", "RESTARTS",
}

// Cells returns the state of a model as the cells of a table for people.
func (m *ModelStatus) Cells() []string {
	row := []string{m.ID, m.State}
	restarts := strconv.FormatUint(m.Restarts, 10)
	if m.Slots == 0 { // not in memory
		return append(row, "-", "-", "-", "-", "-", "-", "-", "-", restarts)
	}

	process := "in serve"
	if m.Process != 0 {
		process = strconv.Itoa(m.Process)
	}
	return append(row,
		process,
		m.devices(),
		m.memory(),
		fmt.Sprintf("%d of %d", m.KVUsed, m.KVCells),
		m.PrefixCache.cell(),
		fmt.Sprintf("%d of %d", m.Running, m.Slots),
		strconv.Itoa(m.Queued),
		fmt.Sprintf("%.0f", m.TokensPerSecond),
		restarts,
	)
}

// cell describes a prefix cache.
func (c PrefixCacheStatus) cell() string {
	if c.LimitBytes == 0 {
		return "-"
	}
	used := machine.FormatSize(uint64(c.UsedBytes))
	cell := fmt.Sprintf("%s of %s", used, machine.FormatSize(uint64(c.LimitBytes)))
	if f := c.Folder; f.LimitBytes > 0 {
		cell += fmt.Sprintf(", %s of %s on disk",
			machine.FormatSize(uint64(f.UsedBytes)), machine.FormatSize(uint64(f.LimitBytes)))
	}
	return cell
}

// devices names the devices that compute a model, and says so if it is the CPU and the machine
// has a GPU.
func (m *ModelStatus) devices() string {
	var names []string
	for _, d := range m.Devices {
		names = append(names, d.Name)
	}
	cell := strings.Join(names, "+")
	if m.WhyProcessor != "" {
		cell += " (" + m.WhyProcessor + ")"
	}
	return cell
}

// memory describes a model's memory in use and planned, for each device if there are several.
func (m *ModelStatus) memory() string {
	var cells []string
	for _, d := range m.Memory {
		cell := machine.FormatSize(d.Planned) + " planned"
		if d.Taken > 0 {
			cell = fmt.Sprintf("%s (%s planned)", machine.FormatSize(d.Taken), machine.FormatSize(d.Planned))
		}
		if len(m.Memory) > 1 {
			cell = d.Device + " " + cell
		}
		cells = append(cells, cell)
	}
	if len(cells) == 0 {
		return machine.FormatSize(m.PlannedBytes) + " planned"
	}
	return strings.Join(cells, ", ")
}
