package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"serve/loader"
	"serve/models/testmodel"
)

// soakTime is how long the engine is disturbed: make soak sets it to minutes.
func soakTime(t *testing.T) time.Duration {
	d, err := time.ParseDuration(os.Getenv("SOAK"))
	if err != nil {
		if os.Getenv("SOAK") != "" {
			t.Fatal(err)
		}
		d = 12 * time.Second
	}
	return d
}

const (
	soakClients = 32
	soakLeaving = 8 // of so many clients one leaves before its answers end
)

// soaked is a serve that is disturbed.
type soaked struct {
	url    string
	http   *http.Client
	keys   []string // of the clients, in turns; the first may read /metrics, too
	cmd    *exec.Cmd
	errOut *syncBuffer

	finished atomic.Int64              // choices that the clients saw end
	tokens   atomic.Int64              // of answers that they saw whole
	answers  atomic.Int64              // requests that were answered as they should be
	vanished atomic.Int64              // requests that they left
	worst    atomic.Int64              // nanoseconds that a stream paused
	events   [soakClients]atomic.Int64 // by client: what it was told
}

// startGuarded is startSoaked with TLS, keys of two tenants, and an audit log, which must be whole in the end.
func startGuarded(t *testing.T, flags ...string) *soaked {
	t.Helper()
	home := t.TempDir()
	environ := []string{"SERVE_HOME=" + home}
	log := filepath.Join(home, "audit")
	if out, err := process(t, environ, "audit", "init", log).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { // after the server has ended
		if out, err := process(t, environ, "audit", "verify", log).CombinedOutput(); err != nil {
			t.Errorf("the audit log: %v: %s", err, out)
		}
	})

	var keys []string
	for _, arguments := range [][]string{
		{"first", "--tenant", "one", "--scope", "inference,metrics"},
		{"second", "--tenant", "two"},
		{"third", "--tenant", "two", "--tokens-per-day", "1000000000", "--requests-per-minute", "1000000"},
	} {
		create := process(t, environ, append([]string{"key", "create"}, arguments...)...)
		secret, err := create.Output()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, strings.TrimSpace(string(secret)))
	}

	s := startSoakedIn(t, home, append(flags, "--tls-self-signed", "--audit", log)...)
	s.keys = keys
	certificate, err := os.ReadFile(filepath.Join(home, "tls", "self-signed.pem"))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificate)
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: trusted},
		ForceAttemptHTTP2: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	s.http = &http.Client{Transport: transport}
	return s
}

// startSoaked serves a tiny model in a process of its own until the test ends.
func startSoaked(t *testing.T, flags ...string) *soaked {
	t.Helper()
	return startSoakedIn(t, t.TempDir(), flags...)
}

func startSoakedIn(t *testing.T, home string, flags ...string) *soaked {
	t.Helper()
	template, err := os.ReadFile("../../build/llama/src/models/templates/Qwen-Qwen2.5-7B-Instruct.jinja")
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := testmodel.Write(model, testmodel.Options{ChatTemplate: string(template), Calm: true}); err != nil {
		t.Fatal(err)
	}

	s := &soaked{
		http:   http.DefaultClient,
		errOut: newSyncBuffer(),
	}
	args := append([]string{model, "--port", "0", "--log-level", "warn"}, flags...)
	s.cmd = process(t, []string{"SERVE_HOME=" + home}, args...)
	s.cmd.Stderr = s.errOut
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		if err := s.cmd.Wait(); err != nil {
			t.Errorf("serve ended with %v", err)
		}
	})
	s.url, _, _ = awaitReady[error](s.errOut, nil)
	return s
}

// canaries are requests of every kind. Whatever happens, their answers are the same.
func canaries() (bodies []string) {
	const tool = `"tools":[{"type":"function","function":{"name":"get_weather","strict":true,` +
		`"parameters":{"type":"object","properties":{"city":{"enum":["Paris","Oslo"]},"days":{"type":"integer",` +
		`"minimum":1,"maximum":7}},"required":["city","days"],"additionalProperties":false}}}],` +
		`"tool_choice":"required","parallel_tool_calls":false`
	const schema = `"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,` +
		`"schema":{"type":"object","properties":{"name":{"type":"string","pattern":"^[A-Z][a-z]{1,12}$"},` +
		`"age":{"type":"integer","minimum":0,"maximum":130}},"required":["name","age"],"additionalProperties":false}}}`
	kinds := []string{
		`"temperature":0,"max_completion_tokens":120`,
		`"temperature":0,"max_completion_tokens":24,"n":2`,
		`"temperature":1,"seed":%d,"max_completion_tokens":60`,
		`"temperature":0.8,"seed":%d,"presence_penalty":0.5,"top_p":0.95,"max_completion_tokens":40`,
		`"temperature":1,"seed":%d,"max_completion_tokens":200,` + schema,
		`"temperature":1,"seed":%d,"max_completion_tokens":200,` + tool,
	}

	for i := range 48 {
		kind := kinds[i%len(kinds)]
		if strings.Contains(kind, "%d") {
			kind = fmt.Sprintf(kind, i)
		}
		words := strings.Repeat("the story of the world ", i%5*8)
		bodies = append(
			bodies,
			fmt.Sprintf(
				`{"model":"tiny","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user",`+
					`"content":"%scanary %d"}],%s}`,
				words,
				i,
				kind,
			),
		)
	}

	return bodies
}

// stream makes a request and returns what each choice said. It leaves after so many
// events, unless that is 0.
func (s *soaked) stream(ctx context.Context, client int, body string, leave int) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return "", err
	}

	req.Header.Set("Content-Type", "application/json")
	s.sign(req, client)
	res, err := s.http.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		return "", fmt.Errorf("%d %s", res.StatusCode, text)
	}

	said := map[int]string{}
	ends := 0
	total := 0
	done := false
	last := time.Now()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for events := 0; lines.Scan(); {
		data, isData := strings.CutPrefix(lines.Text(), "data: ")
		if !isData {
			continue
		}
		s.events[client].Add(1)
		now := time.Now()
		for pause := int64(now.Sub(last)); pause > s.worst.Load(); {
			s.worst.Store(pause)
		}
		last = now
		if done = data == "[DONE]"; done {
			break
		}
		var chunk struct {
			Choices []struct {
				Index int
				Delta struct {
					Content   string
					ToolCalls []struct {
						Function struct{ Name, Arguments string }
					} `json:"tool_calls"`
				}
				Finish string `json:"finish_reason"`
			}
			Usage *struct {
				Completion int `json:"completion_tokens"`
			}
			Error json.RawMessage
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			return "", fmt.Errorf("%w: %s", err, data)
		}
		if chunk.Error != nil {
			return "", errors.New(data)
		}
		for _, c := range chunk.Choices {
			said[c.Index] += c.Delta.Content
			for _, call := range c.Delta.ToolCalls {
				said[c.Index] += call.Function.Name + call.Function.Arguments
			}
			if c.Finish != "" {
				said[c.Index] += " (" + c.Finish + ")"
				ends++
			}
		}
		if chunk.Usage != nil {
			total = chunk.Usage.Completion
		}
		if events++; events == leave {
			s.vanished.Add(1)
			return "", nil
		}
	}

	if !done {
		return "", fmt.Errorf("the stream ends without an end: %w", cmp.Or(lines.Err(), io.ErrUnexpectedEOF))
	}

	s.finished.Add(int64(ends))
	s.tokens.Add(int64(total))
	return fmt.Sprint(said), nil
}

// sign adds a client's key.
func (s *soaked) sign(req *http.Request, client int) {
	if len(s.keys) > 0 {
		req.Header.Set("Authorization", "Bearer "+s.keys[client%len(s.keys)])
	}
}

// engine returns the process of the engine; 0 while there is none.
func (s *soaked) engine() int {
	for _, pid := range s.processes(false) {
		return pid
	}
	return 0
}

// processes returns those that read text, which are two, or those that compute.
func (s *soaked) processes(text bool) []int {
	return slices.DeleteFunc(s.children(), func(pid int) bool { return readsText(pid) != text })
}

// readsText reports whether a child has only a model's vocabulary.
func readsText(pid int) bool {
	arguments, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.Contains(string(arguments), "\x00--"+loader.FlagText+"\x00")
}

// children returns the child processes.
func (s *soaked) children() (pids []int) {
	for _, task := range entries(fmt.Sprintf("/proc/%d/task", s.cmd.Process.Pid)) {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", s.cmd.Process.Pid, task))
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(children)) {
			pid, _ := strconv.Atoi(field)
			pids = append(pids, pid)
		}
	}
	return pids
}

func entries(folder string) (names []string) {
	list, _ := os.ReadDir(folder)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// disturbances are what happens to the engine, and to the processes that read text for it. Those that look like a
// mistake of its own make serve try requests alone, and need the time for it.
var disturbances = []struct {
	name  string
	fault bool
	do    func(pid int) error
}{
	{"SIGKILL", false, func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }},
	{"SIGSTOP", false, func(pid int) error { return syscall.Kill(pid, syscall.SIGSTOP) }},
	{"SIGABRT", true, func(pid int) error { return syscall.Kill(pid, syscall.SIGABRT) }},
	{"SIGSEGV", true, func(pid int) error { return syscall.Kill(pid, syscall.SIGSEGV) }},
	{"garbage to the steps", true, func(pid int) error { return garbage(pid, 0) }},
	{"garbage to the calls", true, func(pid int) error { return garbage(pid, 1) }},
	{"no more memory", true, func(pid int) error {
		none := unix.Rlimit{}
		return unix.Prlimit(pid, unix.RLIMIT_AS, &none, nil)
	}},
}

// garbage writes to the other end of an engine's first or second socket.
func garbage(pid, n int) error {
	var sockets []int
	for _, name := range entries(fmt.Sprintf("/proc/%d/fd", pid)) {
		if link, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, name)); strings.HasPrefix(link, "socket:") {
			fd, _ := strconv.Atoi(name)
			sockets = append(sockets, fd)
		}
	}

	if len(sockets) <= n {
		return fmt.Errorf("%d sockets", len(sockets))
	}

	slices.Sort(sockets)
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(process)
	socket, err := unix.PidfdGetfd(process, sockets[n], 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	_, err = unix.Write(socket, bytes.Repeat([]byte{0xff}, 64))
	return err
}

// numbers reads /metrics.
func (s *soaked) numbers(t *testing.T) map[string]float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.sign(req, 0)
	res, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") {
			numbers[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	return numbers
}

var recovered = regexp.MustCompile(`the (?:engine|tokenizer) was restarted.* after=(\S+)`)

// TestSoak has 32 clients of two tenants stream by HTTP/2 and TLS, with keys and an audit log, while the engine is
// killed, stopped, aborted, starved and fed with garbage, and some of the clients vanish. Nobody's answer changes.
func TestSoak(t *testing.T) {
	stall := "1s"
	if raceDetector {
		stall = "4s" // nothing stalls before it is stopped, however busy the machine is
	}
	s := startGuarded(t, "--parallel", "16", "--ctx-size", "1024", "--stall-timeout", stall)
	bodies := canaries()
	want := make([]string, len(bodies))
	for i, body := range bodies {
		var err error
		if want[i], err = s.stream(t.Context(), 0, body, 0); err != nil {
			t.Fatal(err)
		}
	}
	// What turns in a crowd by itself, where llama.cpp rounds otherwise, says nothing.
	var wg sync.WaitGroup
	turned := make([]bool, len(bodies))
	for i, body := range bodies {
		wg.Go(func() {
			got, err := s.stream(t.Context(), 0, body, 0)
			if err != nil {
				t.Error(err)
			}
			turned[i] = got != want[i]
		})
	}
	wg.Wait()
	var usable []int
	for i := range bodies {
		if !turned[i] {
			usable = append(usable, i)
		}
	}
	if len(usable) < len(bodies)*9/10 {
		t.Fatalf("%d of %d answers turn in a crowd that nobody disturbs", len(bodies)-len(usable), len(bodies))
	}
	before := s.numbers(t)
	s.worst.Store(0)
	d := disturber{server: s, done: map[string]int{}, rng: rand.New(rand.NewSource(1))}
	finished := s.finished.Load()
	tokens := s.tokens.Load()
	s.crowd(t, soakTime(t), &d, bodies, want, usable)
	after := s.numbers(t)
	// Requests whose clients left last may still be ending.
	for after[`serve_choices_running{model="tiny"}`]+after[`serve_choices_waiting{model="tiny"}`] > 0 {
		after = s.numbers(t)
	}
	s.compare(t, before, after, s.finished.Load()-finished, s.tokens.Load()-tokens)

	var times []time.Duration
	for _, m := range recovered.FindAllStringSubmatch(s.errOut.String(), -1) {
		took, err := time.ParseDuration(m[1])
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, took)
	}
	slices.Sort(times)
	if len(times) < 3 || len(d.done) < 2*len(disturbances) {
		t.Errorf("%d restarts of %v: the test is too easy\n%s", len(times), d.done, s.errOut)
	}
	t.Logf(
		"%d answers of %d clients, %d left; disturbed by %v; %d restarts, in the median after %s, at worst %s; the "+
			"longest pause of a stream %s",
		s.answers.Load(),
		soakClients,
		s.vanished.Load(),
		d.done,
		len(times),
		times[len(times)/2],
		times[len(times)-1],
		time.Duration(s.worst.Load()).Round(time.Millisecond),
	)
	for name, most := range map[string]float64{"go_goroutines": 20, "process_open_fds": 10,
		"process_resident_memory_bytes": 64 << 20} {
		t.Logf("%s: %.0f before, %.0f after", name, before[name], after[name])
		if after[name] > before[name]+most {
			t.Errorf("%s grew from %.0f to %.0f", name, before[name], after[name])
		}
	}
}

// compare holds /metrics against what the clients saw: so many choices that ended, of so
// many tokens. An answer that was left may have been complete by then, which only the
// engine knows: it has the length of all that are left.
func (s *soaked) compare(t *testing.T, before, after map[string]float64, finished, tokens int64) {
	grew := func(name string) int64 { return int64(after[name] - before[name]) }
	of := func(name, outcome string) int64 {
		return grew(fmt.Sprintf(`serve_%s_total{model="tiny",outcome=%q}`, name, outcome))
	}

	choices := of("choices", "stop") + of("choices", "length")
	answered := of("ended_tokens", "stop") + of("ended_tokens", "length")
	unseen := choices - finished
	if answered-tokens != unseen*leftTokens {
		t.Errorf("/metrics has %d tokens of %d answers, the clients %d of %d", answered, choices, tokens, finished)
	}
	if left := of("choices", "cancelled"); left+unseen != s.vanished.Load() {
		t.Errorf("%d choices were cancelled and %d complete before that, %d were left", left, unseen, s.vanished.Load())
	}

	all := answered + of("ended_tokens", "cancelled")
	for name, want := range map[string]int64{
		`serve_answer_tokens_total{model="tiny"}`: all, `serve_answer_tokens_sum{model="tiny"}`: all,
		`serve_answer_tokens_count{model="tiny"}`:           choices + of("choices", "cancelled"),
		`serve_choices_total{model="tiny",outcome="error"}`: 0,
	} {
		if got := grew(name); got != want {
			t.Errorf("%s grew by %d, want %d", name, got, want)
		}
	}
}

// leftTokens is how long the answers are that clients leave.
const leftTokens = 700

// left is a request whose client will not wait for the end, unless that comes in fewer events.
var left = fmt.Sprintf(
	`{"model":"tiny","stream":true,"stream_options":{"include_usage":true},"temperature":0,"ignore_eos":true,`+
		`"max_completion_tokens":%d,"messages":[{"role":"user","content":"left"}]}`,
	leftTokens,
)

// crowd has clients stream canaries for a time, and on a slow machine until everything
// was done to the engine at least once.
func (s *soaked) crowd(t *testing.T, d time.Duration, disturb *disturber, bodies, want []string, usable []int) {
	ctx, stop := context.WithTimeout(t.Context(), max(d, 2*time.Minute))
	defer stop()
	var wg sync.WaitGroup
	for client := range soakClients {
		wg.Go(func() {
			rng := rand.New(rand.NewSource(int64(client)))
			for ctx.Err() == nil {
				if client%soakLeaving == soakLeaving-1 {
					if _, err := s.stream(t.Context(), client, left, 1+rng.Intn(10)); err != nil {
						t.Errorf("one that is left: %v", err)
					}
					continue
				}
				i := usable[rng.Intn(len(usable))]
				// The whole answer, also when the time is over meanwhile.
				got, err := s.stream(t.Context(), client, bodies[i], 0)
				switch {
				case err != nil:
					t.Errorf("canary %d: %v", i, err)
				case got != want[i]:
					t.Errorf("canary %d: got %s, undisturbed it is %s", i, got, want[i])
				default:
					s.answers.Add(1)
				}
			}
		})
	}

	disturb.until(ctx, time.Now().Add(d))
	stop()
	wg.Wait()
}

// disturber does one thing after another to the engine.
type disturber struct {
	server *soaked
	next   int
	done   map[string]int
	rng    *rand.Rand
}

func (d *disturber) until(ctx context.Context, end time.Time) {
	for ctx.Err() == nil && (time.Now().Before(end) || len(d.done) < 2*len(disturbances)) {
		what := disturbances[d.next%len(disturbances)]
		name := what.name
		text := d.next/len(disturbances)%2 == 1
		if text {
			name += " to a tokenizer"
		}

		if pids := d.server.processes(text); len(pids) > 0 {
			pid := pids[d.rng.Intn(len(pids))]
			if what.do(pid) == nil {
				d.next++
				d.done[name]++
				if what.fault {
					d.await(ctx, pid)
				}
			}
		}

		select {
		case <-time.After(100*time.Millisecond + time.Duration(d.rng.Intn(200))*time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// await returns when every client has had tokens after a fault: those whose answers were there are tried alone, one
// after the other, and a second fault meanwhile would be taken for that one's own. Clients that leave do not count.
func (d *disturber) await(ctx context.Context, pid int) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var before [soakClients]int64
	gone := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}

		if children := d.server.children(); !gone && len(children) > 0 && !slices.Contains(children, pid) {
			gone = true
			for i := range before {
				before[i] = d.server.events[i].Load()
			}
		}

		waiting := !gone
		for i := range before {
			if i%soakLeaving != soakLeaving-1 && d.server.events[i].Load() <= before[i]+4 {
				waiting = true
			}
		}

		if !waiting {
			return
		}
	}
}
