package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// attacker is the key of whoever attacks. The bystander sends none, and is another client.
const attacker = "attacker"

// attack is a request that may cost nobody but its sender anything: it is answered or refused, and nobody else
// notices.
type attack struct {
	name string
	path string
	body func() string // made when it is sent, as some are large

	// works says that the model answers it, which takes the CPU time of so much work.
	works bool

	// send replaces path and body for what is not one well-formed request. It returns the status, or 0 if the
	// server closed the connection.
	send func(ctx context.Context, url string) (status int, err error)
}

// attacks returns all attacks, each with the limits of docs/robustness.md.
func attacks() []attack {
	return slices.Concat(
		plainAttacks(),
		tokenAttacks(),
		schemaAttacks(),
		httpAttacks(),
		placeAttacks(),
	)
}

// What an attack may cost: CPU time, and memory for each MiB that it sends.
const (
	attackCPU    = time.Second
	attackMemory = 64 << 20
)

// plainAttacks are large or odd in no particular way.
func plainAttacks() []attack {
	const chat = "/v1/chat/completions"
	return []attack{
		{
			name: "a message of 1 MiB",
			path: chat,
			body: func() string { return chatWith(`"max_tokens":1`, strings.Repeat("word ", 1<<18)) },
		},
		{
			name: "an unknown model and 4 MiB",
			path: chat,
			body: func() string { return `{"model":"none","messages":[],"user":"` + strings.Repeat("<", 4<<20) + `"}` },
		},
		{
			name: "arrays in arrays",
			path: chat,
			body: func() string { return strings.Repeat("[", 1<<20) },
		},
		{
			name: "4 MiB of zeros",
			path: chat,
			body: func() string { return strings.Repeat("\x00", 4<<20) },
		},
	}
}

// chatWith returns a request for a chat with one message, and more fields.
func chatWith(fields, message string) string {
	return fmt.Sprintf(`{"model":"tiny",%s,"messages":[{"role":"user","content":%q}]}`, fields, message)
}

// do sends the attack.
func (a *attack) do(ctx context.Context, url string) (status int, err error) {
	if a.send != nil {
		return a.send(ctx, url)
	}

	return a.post(ctx, url, a.body())
}

// post sends a body to the attack's path.
func (a *attack) post(ctx context.Context, url, body string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+a.path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+attacker)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// attacked is a server under attack, and a client beside it that notices everything.
type attacked struct {
	*soaked
	body string // of the bystander's request
	want string // the answer to it

	mu    sync.Mutex // guards what follows
	times []time.Duration
}

// bystand asks the same again and again until ctx is done, and reports every answer that is not as it should be.
func (a *attacked) bystand(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		begun := time.Now()
		got, err := a.stream(t.Context(), 0, a.body, 0)
		if err != nil || got != a.want {
			t.Errorf("the bystander got %q (%v), want %q", got, err, a.want)
			return
		}

		a.mu.Lock()
		a.times = append(a.times, time.Since(begun))
		a.mu.Unlock()
	}
}

// answers returns how many the bystander has had since the last call of p99.
func (a *attacked) answers() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.times)
}

// p99 returns the bystander's 99th percentile since the last call.
func (a *attacked) p99() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.times) == 0 {
		return 0
	}
	slices.Sort(a.times)
	p := a.times[len(a.times)*99/100]
	a.times = nil
	return p
}

// startAttacked starts a server to attack.
func startAttacked(t *testing.T) *attacked {
	t.Helper()
	a := &attacked{soaked: startSoaked(t, "--parallel", "8", "--ctx-size", "1024", "--data-dir", t.TempDir())}
	a.body = chatWith(`"stream":true,"temperature":0,"max_completion_tokens":16`, "the bystander")
	want, err := a.stream(t.Context(), 0, a.body, 0)
	if err != nil {
		t.Fatal(err)
	}
	a.want = want
	return a
}

// restarts returns how often an engine was restarted.
func (a *attacked) restarts(t *testing.T) float64 {
	t.Helper()
	total := 0.0
	for name, value := range a.numbers(t) {
		if strings.HasPrefix(name, "serve_engine_restarts_total") {
			total += value
		}
	}
	return total
}

// charge sends an attack and checks that it was answered or refused in a regular way.
func (a *attacked) charge(ctx context.Context, t *testing.T, attack *attack) {
	t.Helper()
	status, err := attack.do(ctx, a.url)
	refused := status >= 400 && status < 500 || status == http.StatusServiceUnavailable
	if err != nil && status == 0 && attack.send == nil || status != 0 && status != http.StatusOK && !refused {
		t.Errorf("%s: status %d, %v", attack.name, status, err)
	}
}

// TestAttacks sends every attack, and then all of them at once, beside a client that must not notice. What they
// cost is measured by TestCostOfAttacks.
func TestAttacks(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes an attack expensive for the server, not for who attacks")
	}

	a := startAttacked(t)
	before := a.restarts(t)
	ctx, stop := context.WithCancel(t.Context())
	var bystander sync.WaitGroup
	bystander.Go(func() { a.bystand(ctx, t) })

	list := attacks()
	for i := range list {
		a.charge(t.Context(), t, &list[i])
		if after := a.restarts(t); after != before {
			t.Errorf("%s: the engine was restarted\n%s", list[i].name, a.errOut)
			before = after
		}
	}

	var crowd sync.WaitGroup
	for i := range list {
		crowd.Go(func() { a.charge(t.Context(), t, &list[i]) })
	}
	crowd.Wait()
	if after := a.restarts(t); after != before {
		t.Errorf("all at once: the engine was restarted\n%s", a.errOut)
	}

	stop()
	bystander.Wait()
}

// processTimes returns the CPU time and the peak of resident memory of a process.
func processTimes(pid int) (cpu time.Duration, peak int64) {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if i := bytes.LastIndexByte(stat, ')'); i >= 0 {
		const userTime = 11 // and system time, by their places after the name
		fields := strings.Fields(string(stat[i+1:]))
		for _, field := range fields[userTime : userTime+2] {
			ticks, _ := strconv.ParseInt(field, 10, 64)
			cpu += time.Duration(ticks) * 10 * time.Millisecond
		}
	}

	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			peak = kib << 10
		}
	}
	return cpu, peak
}

// cost is what the processes of a server have used.
type cost struct {
	cpu  time.Duration
	peak int64 // bytes of resident memory
}

// cost returns what all processes have used by now.
func (a *attacked) cost() (total cost) {
	for _, pid := range append(a.children(), a.cmd.Process.Pid) {
		cpu, peak := processTimes(pid)
		total.cpu += cpu
		total.peak += peak
	}
	return total
}

// forgetPeak begins the peaks of resident memory anew.
func (a *attacked) forgetPeak() {
	for _, pid := range append(a.children(), a.cmd.Process.Pid) {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
}

// TestCostOfAttacks measures each attack alone and beside a bystander, 1, 4 and 64 at once, and then all of them
// mixed for ATTACK, a duration. make attack runs it.
func TestCostOfAttacks(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("ATTACK"))
	if err != nil {
		t.Skip("ATTACK is not set to a duration; make attack does so")
	}
	a := startAttacked(t)
	calm := a.undisturbed(t)
	t.Logf("%d CPUs; undisturbed, the bystander's p99 is %s", runtime.NumCPU(), calm)

	list := attacks()
	t.Run("alone", func(t *testing.T) {
		for i := range list {
			a.measure(t, &list[i])
		}
	})
	t.Run("at once", func(t *testing.T) {
		for _, n := range []int{1, 4, 64} {
			for i := range list {
				t.Run(fmt.Sprintf("%d/%s", n, list[i].name), func(t *testing.T) { a.atOnce(t, &list[i], n, calm) })
			}
		}
	})
	// The client that attacks itself has no more than its share; nothing is promised to it.
	t.Run("same client", func(t *testing.T) {
		a.keys = []string{attacker}
		defer func() { a.keys = nil }()
		for i := range list {
			t.Run(list[i].name, func(t *testing.T) { a.beside(t, &list[i], 4, calm) })
		}
	})
	t.Run("mixed", func(t *testing.T) { a.mixed(t, list, length) })
}

// undisturbed returns the bystander's p99 while nobody attacks.
func (a *attacked) undisturbed(t *testing.T) time.Duration {
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	a.bystand(ctx, t)
	return a.p99()
}

// measure sends an attack alone and reports its cost.
func (a *attacked) measure(t *testing.T, attack *attack) {
	size := int64(0)
	if attack.body != nil {
		size = int64(len(attack.body()))
	}

	resident := a.residents()
	before := a.cost()
	a.charge(t.Context(), t, attack)
	after := a.cost()

	cpu := after.cpu - before.cpu
	memory := after.peak - before.peak
	t.Logf("%-44s %8.2f MiB %8s of CPU %6d MiB", attack.name, float64(size)/(1<<20), cpu, memory>>20)
	if cpu > attackCPU && !attack.works {
		t.Errorf("%s: %s of CPU time", attack.name, cpu)
	}
	if allowed := attackMemory * max(1, (size+1<<20-1)>>20); memory > allowed {
		t.Errorf("%s: %d MiB of memory, more than %d; by process, before:%s, at most:%s",
			attack.name, memory>>20, allowed>>20, resident, a.peaks())
	}
}

// atOnce sends an attack n times at once beside the bystander, who may wait at most ten times as long as when
// undisturbed.
func (a *attacked) atOnce(t *testing.T, attack *attack, n int, calm time.Duration) {
	if p99 := a.beside(t, attack, n, calm); p99 > 10*calm {
		t.Errorf("%s, %d at once: the bystander's p99 is %s, undisturbed %s", attack.name, n, p99, calm)
	}
}

const (
	bystanding = 200 // answers that a percentile is worked out of: of fewer, the 99th is the worst
	resting    = 5   // answers between two attacks: who attacks without end takes the machine by what it sends
)

// beside sends an attack n times at once beside the bystander, and does so again after a while, until the bystander has
// had so many answers meanwhile that they have a p99. It returns that.
func (a *attacked) beside(t *testing.T, attack *attack, n int, calm time.Duration) time.Duration {
	restarts := a.restarts(t)
	ready := *attack
	if attack.send == nil {
		body := attack.body() // once: making it takes CPU time that the server could use
		ready.body = func() string { return body }
	}

	for begun := time.Now(); a.answers() < bystanding && time.Since(begun) < time.Minute && !t.Failed(); {
		a.burst(t, &ready, n)
		for range resting {
			if got, err := a.stream(t.Context(), 0, a.body, 0); err != nil || got != a.want {
				t.Errorf("after it, the bystander got %q (%v), want %q", got, err, a.want)
			}
		}
	}

	p99 := a.p99()
	t.Logf("%-44s %2d at once: the bystander's p99 is %s, %.1f times", attack.name, n, p99, float64(p99)/float64(calm))
	if a.restarts(t) != restarts {
		t.Errorf("%s, %d at once: the engine was restarted\n%s", attack.name, n, a.errOut)
	}
	return p99
}

// burst sends an attack n times at once, and has the bystander ask meanwhile.
func (a *attacked) burst(t *testing.T, attack *attack, n int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var bystander sync.WaitGroup
	bystander.Go(func() { a.bystand(ctx, t) })

	var crowd sync.WaitGroup
	for range n {
		crowd.Go(func() { a.charge(t.Context(), t, attack) })
	}
	crowd.Wait()
	stop()
	bystander.Wait()
}

// mixed attacks for a time with eight clients and compares the memory at the beginning, when everything has been
// used once, and at the end.
func (a *attacked) mixed(t *testing.T, list []attack, length time.Duration) {
	restarts := a.restarts(t)
	for i := range list {
		a.charge(t.Context(), t, &list[i])
	}

	t.Logf("memory of each process before:%s", a.residents())
	before := a.resident()
	ctx, stop := context.WithTimeout(t.Context(), length)
	defer stop()

	var clients sync.WaitGroup
	clients.Go(func() { a.bystand(ctx, t) })
	var next atomic.Int64
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				a.charge(t.Context(), t, &list[int(next.Add(1))%len(list)])
			}
		})
	}
	clients.Wait()

	t.Logf("%d attacks in %s; memory of each process now:%s", next.Load(), length, a.residents())
	after := a.resident()
	t.Logf("%d MiB of memory before, %d after", before>>20, after>>20)
	if after > before+before/10 {
		t.Errorf("memory grew from %d to %d MiB", before>>20, after>>20)
	}
	if a.restarts(t) != restarts {
		t.Errorf("mixed: the engine was restarted\n%s", a.errOut)
	}
}

// residents lists the resident memory of each process, in MiB.
func (a *attacked) residents() (list string) {
	a.forgetPeak() // then the peak is what there is
	return a.peaks()
}

// peaks lists the peak of each process's resident memory, in MiB.
func (a *attacked) peaks() (list string) {
	for _, pid := range append(a.children(), a.cmd.Process.Pid) {
		kind := "engine"
		if readsText(pid) {
			kind = "tokenizer"
		}
		if pid == a.cmd.Process.Pid {
			kind = "serve"
		}
		_, peak := processTimes(pid)
		list += fmt.Sprintf(" %s %d", kind, peak>>20)
	}
	return list
}

// resident returns the resident memory of all processes, in bytes.
func (a *attacked) resident() (bytes int64) {
	a.forgetPeak() // then the peak is what there is
	return a.cost().peak
}
