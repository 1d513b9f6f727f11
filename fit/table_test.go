package fit_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"serve/fit"
	"serve/fit/fittest"
	"serve/machine"
)

var update = flag.Bool("update", false, "write testdata/plans.txt anew")

// madeUp is a machine with the plans that somebody who knows llama.cpp well would write down for the models of
// fittest.All, a letter each: A all on GPUs; C all on GPUs with fewer KV cells; E some experts in main memory; F some
// feed-forward networks in main memory; L some layers in main memory; P all on the CPU; p that with fewer KV cells;
// X it does not fit. They were written before the planner was run.
type madeUp struct {
	name    string
	expert  string
	devices []fit.Device
	host    fit.Device
}

func gib(n float64) uint64 { return uint64(n * (1 << 30)) }

// reserve is what loader leaves free by default.
func reserve(total float64) uint64 { return min(1<<30, gib(total)/8) }

// cuda is an NVIDIA GPU, whose driver keeps a context for each process.
func cuda(name string, free, total float64) fit.Device {
	return fit.Device{Name: name, Free: gib(free), Total: gib(total), Reserve: reserve(total), Base: 592 << 20,
		HostBase: 120 << 20}
}

// cudas are several of a kind.
func cudas(n int, free, total float64) (list []fit.Device) {
	for i := range n {
		list = append(list, cuda(fmt.Sprintf("CUDA%d", i), free, total))
	}
	return list
}

// shared is a GPU that has the host's memory. What is left free is left free of the host's.
func shared(name string, free, total float64) fit.Device {
	return fit.Device{Name: name, Unified: true, Free: gib(free), Total: gib(total)}
}

func host(free, total float64) fit.Device {
	return fit.Device{Name: "host", Free: gib(free), Total: gib(total), Reserve: reserve(total), Base: 88 << 20}
}

var machines = []madeUp{
	{"laptop, 8 GB", "P X X X X X X X X X", nil, host(6, 8)},
	{"laptop, 16 GB", "P p P p X X X X X X", nil, host(12, 16)},
	{"desktop, 32 GB", "P P P p P X P X P X", nil, host(28, 32)},
	{"server, 128 GB", "P P P P P P P P P X", nil, host(120, 128)},
	{"server, 512 GB", "P P P P P P P P P P", nil, host(500, 512)},
	{"server, 1 TB", "P P P P P P P P P P", nil, host(1000, 1024)},
	{"laptop with a card of 4 GB, 16 GB", "C F L L X X X X X X", cudas(1, 3.6, 4), host(11, 16)},
	{"laptop with a card of 6 GB, 16 GB", "A F F F X X X X X X", cudas(1, 5.5, 6), host(11, 16)},
	{"laptop with a card of 8 GB, 32 GB", "A C F F F X E X E X", cudas(1, 7.4, 8), host(26, 32)},
	{"card of 8 GB, 64 GB", "A C F F F L E E E X", cudas(1, 7.4, 8), host(58, 64)},
	{"card of 12 GB, 32 GB", "A C A C F X E X E X", cudas(1, 11.3, 12), host(27, 32)},
	{"card of 12 GB, 128 GB", "A C A C F L E E E X", cudas(1, 11.3, 12), host(120, 128)},
	{"card of 16 GB, 64 GB", "A A A C F F E E E X", cudas(1, 15.2, 16), host(58, 64)},
	{"card of 24 GB that others use, 64 GB", "P P P P P p P X P X", cudas(1, 2, 24), host(58, 64)},
	{"card of 24 GB, 32 GB", "A A A A C F C X A X", cudas(1, 23.2, 24), host(27, 32)},
	{"card of 24 GB, 64 GB", "A A A A C F C E A X", cudas(1, 23.2, 24), host(58, 64)},
	{"card of 24 GB, 128 GB", "A A A A C F C E A X", cudas(1, 23.2, 24), host(120, 128)},
	{"card of 24 GB, 16 GB", "A A A A C X C X A X", cudas(1, 23.2, 24), host(11, 16)},
	{"card of 32 GB, 64 GB", "A A A A A F A E A X", cudas(1, 31, 32), host(58, 64)},
	{"DGX Spark, 128 GB unified", "A A A A A A A A A X",
		[]fit.Device{shared("CUDA0", 100, 119)}, host(110, 119)},
	{"two cards of 24 GB, 64 GB", "A A A A A C A E A X", cudas(2, 23.2, 24), host(58, 64)},
	{"two cards of 24 GB, 128 GB", "A A A A A C A E A X", cudas(2, 23.2, 24), host(120, 128)},
	{"cards of 24 and 8 GB, 64 GB", "A A A A A F A E A X",
		[]fit.Device{cuda("CUDA0", 23.2, 24), cuda("CUDA1", 7.4, 8)}, host(58, 64)},
	{"cards of 8 and 24 GB, 64 GB", "A A A A A F A E A X",
		[]fit.Device{cuda("CUDA0", 7.4, 8), cuda("CUDA1", 23.2, 24)}, host(58, 64)},
	{"cards of 12 and 6 GB, 32 GB", "A A A C F X E X E X",
		[]fit.Device{cuda("CUDA0", 11.3, 12), cuda("CUDA1", 5.5, 6)}, host(27, 32)},
	{"four cards of 24 GB, 256 GB", "A A A A A A A A A X", cudas(4, 23.2, 24), host(250, 256)},
	{"eight cards of 24 GB, 512 GB", "A A A A A A A A A E", cudas(8, 23.2, 24), host(500, 512)},
	{"three cards of 16 GB, 128 GB", "A A A A A F A E A X", cudas(3, 15.2, 16), host(120, 128)},
	{"card of 48 GB, 128 GB", "A A A A A C A E A X", cudas(1, 47, 48), host(120, 128)},
	{"H100, 128 GB", "A A A A A A A A A X", cudas(1, 79, 80), host(120, 128)},
	{"two H100, 256 GB", "A A A A A A A A A E", cudas(2, 79, 80), host(250, 256)},
	{"eight H100, 1 TB", "A A A A A A A A A A", cudas(8, 79, 80), host(1000, 1024)},
	{"H200, 256 GB", "A A A A A A A A A E", cudas(1, 139, 141), host(250, 256)},
	{"eight H200, 2 TB", "A A A A A A A A A A", cudas(8, 139, 141), host(2000, 2048)},
	{"Mac, 16 GB", "A C A C X X X X X X", []fit.Device{shared("Metal", 10.6, 10.6)}, host(12, 16)},
	{"Mac, 64 GB", "A A A A A C A X A X", []fit.Device{shared("Metal", 48, 48)}, host(58, 64)},
	{"Mac, 512 GB", "A A A A A A A A A A", []fit.Device{shared("Metal", 384, 384)}, host(490, 512)},
	{"integrated GPU of 4 GB, 32 GB", "A F F F F X E X E X", []fit.Device{shared("Vulkan0", 4, 4)}, host(27, 32)},
	{"GPU that reports 0 of 0, 64 GB", "A A A A A C A E A X",
		[]fit.Device{{Name: "SYCL0", Reserve: 1 << 30}}, host(58, 64)},
	{"card of 32 GB with 120 GB free, 128 GB", "A A A A A F A E A X", cudas(1, 120, 32), host(120, 128)},
}

// settings are those of serve without flags.
func settings() fit.Settings {
	return fit.Settings{Context: 8192, Sequences: 8, K: 2, V: 2, MicroBatch: 512, Wanted: 32768}
}

// letter is the kind of a plan.
func letter(p *fit.Plan) string {
	moved := 0
	for _, s := range p.Devices {
		moved += len(s.Moved)
	}
	switch {
	case p == nil:
		return "X"
	case len(p.Devices) == 0 && p.Cells < p.All:
		return "p"
	case len(p.Devices) == 0:
		return "P"
	case p.Layers < p.Of:
		return "L"
	case moved > 0 && p.Part == fit.Experts:
		return "E"
	case moved > 0:
		return "F"
	case p.Cells < p.All:
		return "C"
	}
	return "A"
}

// TestPlans plans ten models on forty machines, and compares the plans with testdata/plans.txt, which is to be read: it
// has the plans with their costs, and where somebody would have planned otherwise, how and why that is not done.
func TestPlans(t *testing.T) {
	const path = "testdata/plans.txt"
	list := fittest.All()
	var b strings.Builder
	b.WriteString("Plans for 10 models on 40 machines, by TestPlans (go test ./fit -run TestPlans -update).\n" +
		"A all on GPUs; C with fewer KV cells; E experts in main memory; F feed-forward networks there; L layers there;\n" +
		"P all on the CPU; p with fewer KV cells; X it does not fit.\n")
	if len(machines) != 40 || len(list) != 10 {
		t.Fatalf("%d machines and %d models", len(machines), len(list))
	}

	used := map[string]bool{}
	for _, on := range machines {
		fmt.Fprintf(&b, "\n%s\n", on.name)
		expert := strings.Fields(on.expert)
		for i, m := range list {
			model := fit.ModelOf(m.Header(), m.Tensors, nil)
			model.Projector = m.Projector
			plan, short := fit.Choose(model, &fit.Machine{Devices: on.devices, Host: on.host}, settings())
			have := "X"
			text := ""
			if plan != nil {
				have = letter(plan)
				text = plan.String()
				checkPlan(t, on, m.Name, plan)
			} else {
				s := &short.Share
				text = fmt.Sprintf("%s would need %s, and %s is free", s.Device, machine.FormatSize(s.Needs()),
					machine.FormatSize(short.Free))
			}
			fmt.Fprintf(&b, "  %s  %-20s %s\n", have, m.Name, text)
			if have == expert[i] {
				continue
			}

			key := on.name + ": " + m.Name
			why := reasons[key]
			if why == "" {
				t.Errorf("%s: %s instead of %s: %s", key, have, expert[i], text)
			}
			used[key] = true
			fmt.Fprintf(&b, "     an expert: %s; %s\n", expert[i], why)
		}
	}
	for key := range reasons {
		if !used[key] {
			t.Errorf("%s is as an expert would plan it", key)
		}
	}

	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(path); err != nil || string(have) != b.String() {
		t.Errorf("%s is not what is planned (%v); -update writes it anew, then read it", path, err)
	}
}

// checkPlan checks what holds of every plan: nothing is lost, and every device has room for its share.
func checkPlan(t *testing.T, on madeUp, model string, p *fit.Plan) {
	t.Helper()
	layers := p.Host.Layers
	whole := p.Host
	for _, s := range p.Devices {
		layers += s.Layers
		i := slices.IndexFunc(on.devices, func(d fit.Device) bool { return d.Name == s.Device })
		d := &on.devices[i]
		if s.Needs() > d.Room() && d.Known() {
			t.Errorf("%s: %s: %s has room for %d bytes, and the plan takes %d", on.name, model, d.Name, d.Room(), s.Needs())
		}
		if d.Unified {
			whole.Weights += s.Needs()
		}
	}
	if layers != p.Of || whole.Needs() > on.host.Room() {
		t.Errorf("%s: %s: %d of %d layers are placed, and %d bytes of the host", on.name, model, layers, p.Of, whole.Needs())
	}
}

// Why plans are others than an expert's.
const (
	window = "of a sliding window he keeps only the cells that the window sees; serve keeps all, to continue after any " +
		"prefix"
	tight = "it fits by a little, which he did not compute so exactly"
)

// reasons say why a plan is another than an expert's.
var reasons = map[string]string{
	"laptop with a card of 6 GB, 16 GB: Gemma 3 12B":      window,
	"laptop with a card of 8 GB, 32 GB: Gemma 3 12B":      window,
	"laptop with a card of 8 GB, 32 GB: Qwen2.5-VL 7B":    tight,
	"card of 8 GB, 64 GB: Gemma 3 12B":                    window,
	"card of 8 GB, 64 GB: Qwen2.5-VL 7B":                  tight,
	"card of 12 GB, 32 GB: Gemma 3 12B":                   window,
	"card of 12 GB, 128 GB: Gemma 3 12B":                  window,
	"card of 16 GB, 64 GB: Mistral Small 24B":             tight,
	"card of 24 GB, 32 GB: Gemma 3 12B":                   window,
	"card of 24 GB, 64 GB: Gemma 3 12B":                   window,
	"card of 24 GB, 128 GB: Gemma 3 12B":                  window,
	"card of 24 GB, 16 GB: Gemma 3 12B":                   window,
	"card of 32 GB, 64 GB: Gemma 3 12B":                   window,
	"cards of 24 and 8 GB, 64 GB: Gemma 3 12B":            window,
	"cards of 8 and 24 GB, 64 GB: Gemma 3 12B":            window,
	"card of 32 GB with 120 GB free, 128 GB: Gemma 3 12B": window,
	"Mac, 16 GB: Gemma 3 12B":                             window + "; without the GPU's buffers fewer of them fit",
	"integrated GPU of 4 GB, 32 GB: Gemma 3 12B":          window,
	"three cards of 16 GB, 128 GB: Llama 3.3 70B":         tight,
	"card of 24 GB that others use, 64 GB: Llama 3.2 1B":  "he leaves such a card to the others; serve leaves them the reserve",
	"integrated GPU of 4 GB, 32 GB: Granite 4.0 H Small":  "the states of eight sequences take 1.2 GiB, which he forgot",
	"GPU that reports 0 of 0, 64 GB: Llama 3.3 70B":       tight + "; nobody knows what the GPU has, which the plan says",
}
