// Command bench measures serve beside llama-server and the bare engine, all of
// one tree, in one run: see docs/performance.md. It prints medians of several
// runs and their ratios. Nothing asserts a time.
//
//	go run ./bench -serve bin/serve MODEL.gguf...
//	go run ./bench -kernels haswell,zen4 -native bin/serve-native MODEL.gguf...
//	go run ./bench -before OLD/bin/serve MODEL.gguf...
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"serve/loadgen"
)

type options struct {
	serve, peers string
	clients      []int
	tokens       int
	requests     int
	runs         int
	threads      int
	context      int
	longPrompt   int
	underSchema  bool
	crowd        bool
	kernels      []string
	native       string
	before       string
}

func main() {
	var o options
	var clients, kernels string
	flag.StringVar(&o.serve, "serve", "bin/serve", "the serve binary")
	flag.StringVar(&o.peers, "peers", filepath.Join("build/llama", runtime.GOARCH, "peers/bin"),
		"folder of llama-server and llama-batched-bench")
	flag.StringVar(&clients, "clients", "1,8,32", "numbers of clients")
	flag.IntVar(&o.tokens, "tokens", 128, "tokens of an answer")
	flag.IntVar(&o.requests, "requests", 4, "requests of a client in a run")
	flag.IntVar(&o.runs, "runs", 5, "runs, of which the median counts")
	flag.IntVar(&o.threads, "threads", 2, "threads that compute")
	flag.IntVar(&o.context, "ctx-size", 2048, "tokens of a request")
	flag.IntVar(&o.longPrompt, "long-prompt", 4000, "tokens of the prompt that arrives while 8 streams run; 0 for none")
	flag.BoolVar(&o.underSchema, "schemas", true, "measure answers by a schema")
	flag.BoolVar(
		&o.crowd, "crowd", true, "measure a client beside one that floods, and an offered load of five times capacity",
	)
	flag.StringVar(&kernels, "kernels", "", "measure nothing but these kernels beside those that serve chooses")
	flag.StringVar(&o.native, "native", "", "with -kernels: a serve that was built with NATIVE=1")
	flag.StringVar(&o.before, "before", "", "measure nothing but the serve binary beside this one, of an earlier commit")
	flag.Parse()
	o.kernels = list(kernels)
	for _, c := range list(clients) {
		n, err := strconv.Atoi(c)
		if err != nil {
			fatal(err)
		}
		o.clients = append(o.clients, n)
	}

	for _, model := range flag.Args() {
		if err := o.run(model); err != nil {
			fatal(err)
		}
	}
}

// list reads values with commas between them.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// run prints a table for one model.
func (o *options) run(model string) error {
	fmt.Printf("\n%s: %d tokens an answer, greedy, %d requests a client, median of %d runs\n",
		filepath.Base(model), o.tokens, o.requests, o.runs)
	switch {
	case len(o.kernels) > 0:
		return o.forClients(model, o.measureKernels)
	case o.before != "":
		return o.forClients(model, o.measureChange)
	}

	fmt.Printf(
		"%8s %8s %12s %13s %12s %8s %9s %9s %9s %8s   %s\n", "clients", "serve", "one process", "llama-server",
		"same, tuned", "bare", "x one", "x server", "x tuned", "of bare",
		"first token (serve / one process / llama-server / tuned)",
	)
	if err := o.forClients(model, o.throughput); err != nil {
		return err
	}
	if o.longPrompt > 0 {
		if err := o.longPromptGaps(model); err != nil {
			return err
		}
	}
	if o.crowd {
		if err := o.flood(model); err != nil {
			return err
		}
		if err := o.overload(model); err != nil {
			return err
		}
	}
	if o.underSchema {
		return o.schemas(model)
	}
	return nil
}

// forClients measures each number of clients.
func (o *options) forClients(model string, measure func(model string, clients int) error) error {
	for _, clients := range o.clients {
		if err := measure(model, clients); err != nil {
			return err
		}
	}
	return nil
}

// throughput measures one number of clients.
func (o *options) throughput(model string, clients int) error {
	servers := []*process{
		o.startServe(model, clients),
		o.startServe(model, clients, "--isolate=false"),
		o.startPeer(model),
		o.startTunedPeer(model, clients),
	}
	defer stopAll(servers)
	if err := firstError(servers); err != nil {
		return err
	}

	contenders := o.loops(servers, clients)
	contenders = append(contenders, func() (rate, first float64, err error) {
		rate, err = o.bare(model, clients)
		return rate, 0, err
	})
	rates, firsts, err := takeTurns(contenders, o.runs)
	if err != nil {
		return err
	}

	ours := median(rates[0])
	one := median(rates[1])
	theirs := median(rates[2])
	tuned := median(rates[3])
	limit := median(rates[4])
	fmt.Printf("%8d %8.0f %12.0f %13.0f %12.0f %8.0f %9.3f %9.2f %9.2f %7.0f%%   %.1f / %.1f / %.1f / %.1f ms\n",
		clients, ours, one, theirs, tuned, limit, ours/one, ours/theirs, ours/tuned, 100*ours/limit,
		1000*median(firsts[0]), 1000*median(firsts[1]), 1000*median(firsts[2]), 1000*median(firsts[3]))
	return nil
}

// loops are contenders: clients in closed loops, for each of the servers.
func (o *options) loops(servers []*process, clients int) (contenders []contender) {
	for _, p := range servers {
		contenders = append(contenders, func() (rate, first float64, err error) {
			return closedLoops(p, clients, o.requests, o.tokens)
		})
	}
	return contenders
}

// contender is measured once: tokens a second, and seconds to a first token.
type contender func() (rate, first float64, err error)

// takeTurns measures contenders so many times, after a run that warms up. They take turns, each run in another order,
// so that a busy minute of the machine, and what the one before leaves of its caches and clock, falls on all of them.
// Results are by contender, then by run.
func takeTurns(contenders []contender, runs int) (rates, firsts [][]float64, err error) {
	rates = make([][]float64, len(contenders))
	firsts = make([][]float64, len(contenders))
	for run := range runs + 1 {
		for turn := range contenders {
			i := (turn + run) % len(contenders)
			rate, first, err := contenders[i]()
			if err != nil {
				return nil, nil, err
			}
			if run > 0 {
				rates[i] = append(rates[i], rate)
				firsts[i] = append(firsts[i], first)
			}
		}
	}
	return rates, firsts, nil
}

// process is a server under measurement.
type process struct {
	name, url string
	cmd       *exec.Cmd
	log       bytes.Buffer
	err       error
	once      sync.Once
}

func (o *options) startServe(model string, clients int, flags ...string) *process {
	port := freePort()
	return start("serve", port, o.serve, append([]string{model, "--port", port, "--parallel", strconv.Itoa(clients),
		"--ctx-size", strconv.Itoa(o.context), "--threads", strconv.Itoa(o.threads), "--log-level", "warn"}, flags...)...)
}

// startPeer starts llama-server as its users do: with a model and nothing else
// that changes how it batches.
func (o *options) startPeer(model string) *process {
	return o.peer("llama-server", model)
}

// startTunedPeer starts llama-server with as many slots as there are clients,
// each with a KV stream of its own: its fastest form here.
func (o *options) startTunedPeer(model string, clients int) *process {
	return o.peer("llama-server tuned", model,
		"-np", strconv.Itoa(clients), "-c", strconv.Itoa(o.context*clients), "--no-kv-unified")
}

// peer starts llama-server. Name is what the run is called in tables.
func (o *options) peer(name, model string, flags ...string) *process {
	port := freePort()
	return start(name, port, filepath.Join(o.peers, "llama-server"), append([]string{
		"-m", model, "--port", port, "-t", strconv.Itoa(o.threads), "-lv", "1"}, flags...)...)
}

func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func start(name, port, path string, args ...string) *process {
	p := &process{name: name, url: "http://127.0.0.1:" + port, cmd: exec.Command(path, args...)}
	p.cmd.Stdout = &p.log
	p.cmd.Stderr = &p.log
	if p.err = p.cmd.Start(); p.err != nil {
		return p
	}
	for range 600 {
		if r, err := http.Get(p.url + "/health"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return p
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.err = fmt.Errorf("%s does not get ready:\n%s", name, p.log.String())
	return p
}

func (p *process) stop() {
	p.once.Do(func() {
		if p.cmd.Process != nil {
			p.cmd.Process.Kill()
			p.cmd.Wait()
		}
	})
}

func stopAll(servers []*process) {
	for _, p := range servers {
		p.stop()
	}
}

// firstError is why a server did not start.
func firstError(servers []*process) error {
	for _, p := range servers {
		if p.err != nil {
			return p.err
		}
	}
	return nil
}

// closedLoops runs clients in closed loops and returns tokens a second of all together,
// and the median time to a first token in seconds.
func closedLoops(p *process, clients, requests, tokens int) (rate, first float64, err error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	var firsts []float64
	begin := time.Now()
	for range clients {
		wg.Go(func() {
			for range requests {
				at, err := complete(context.Background(), p, query{prompt: unlikeAny(), tokens: tokens})
				mu.Lock()
				errs = append(errs, err)
				firsts = append(firsts, at.Seconds())
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	err = errors.Join(errs...)
	if err != nil {
		err = fmt.Errorf("%s: %w", p.name, err)
	}
	return float64(clients*requests*tokens) / time.Since(begin).Seconds(), median(firsts), err
}

// unlikeAny is a prompt of about 16 tokens, as long as bare's, that begins like no other:
// contenders keep what they computed of prompts, some for longer, and bare keeps nothing.
func unlikeAny() string {
	var b strings.Builder
	for range 8 { // letters apart are a token each, digits together are not
		fmt.Fprintf(&b, "%c ", 'a'+rand.IntN(26))
	}
	return b.String() + "went out for the time and"
}

// query is one completion.
type query struct {
	prompt string
	tokens int
	key    string          // that is sent with it, empty for none
	event  func(time.Time) // gets the time of every event with text, unless nil
}

var client = loadgen.NewHTTP(&http.Transport{})

// complete streams one completion and returns when its first text came.
func complete(ctx context.Context, p *process, q query) (time.Duration, error) {
	c := loadgen.Client{URL: p.url, HTTP: client}
	a, err := c.Ask(ctx, loadgen.Call{Model: p.model(), Prompt: q.prompt, Tokens: q.tokens, Key: q.key, Event: q.event,
		Fields: map[string]any{"temperature": 0, "ignore_eos": true}})
	return a.First, err
}

// model is the name that serve wants; llama-server takes any.
func (p *process) model() string {
	name := filepath.Base(p.cmd.Args[1])
	if p.name != "serve" {
		return "any"
	}
	return strings.TrimSuffix(name, filepath.Ext(name))
}

var bareRow = regexp.MustCompile(`(?m)^\|\s*\d+ \|\s*\d+ \|\s*\d+ \|.*$`)

// bare runs the engine without a server: decoding only, nothing drawn.
func (o *options) bare(model string, clients int) (float64, error) {
	var fields []string
	for tries := 0; len(fields) < 11; tries++ {
		out, err := exec.Command(filepath.Join(o.peers, "llama-batched-bench"),
			"-m", model, "-c", strconv.Itoa(o.context*clients), "-b", "512", "-ub", "512", "-npp", "16",
			"-ntg", strconv.Itoa(o.tokens), "-npl", strconv.Itoa(clients), "-t", strconv.Itoa(o.threads)).Output()
		if err != nil {
			return 0, fmt.Errorf("llama-batched-bench: %w", err)
		}

		// A short run may end before its logger has written the row.
		if fields = strings.Split(bareRow.FindString(string(out)), "|"); len(fields) < 11 && tries == 5 {
			return 0, fmt.Errorf("llama-batched-bench: no row in %q", out)
		}
	}

	// The seconds for the prompts, which are as long as ours, and the answers.
	seconds, err := strconv.ParseFloat(strings.TrimSpace(fields[9]), 64)
	if err != nil {
		return 0, fmt.Errorf("llama-batched-bench: %w", err)
	}
	return float64(clients*o.tokens) / seconds, nil
}

// longPromptGaps lets a long prompt arrive while eight streams run, and reports
// for each server the worst stream's largest gap over its median one.
func (o *options) longPromptGaps(model string) error {
	fmt.Printf(
		"8 streams, a prompt of %d tokens arrives: worst stream's largest gap over its median, and the prompt's time "+
			"to a first token\n",
		o.longPrompt,
	)

	wide := *o
	wide.context = o.longPrompt + 600
	ours := func() *process { return wide.startServe(model, 9) }
	theirs := func() *process { return wide.startTunedPeer(model, 9) }

	for _, startServer := range []func() *process{ours, theirs} {
		var ratios, firsts []float64
		p := startServer()
		if p.err != nil {
			return p.err
		}

		for run := range o.runs + 1 {
			ratio, first, err := gapsUnderPrompt(p, o.longPrompt, run)
			if err != nil {
				p.stop()
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if run > 0 { // the first run warms up
				ratios = append(ratios, ratio)
				firsts = append(firsts, first)
			}
		}
		p.stop()
		fmt.Printf("  %-14s %6.1f x (of %d runs: %.1f to %.1f), first token after %.2f s\n",
			p.name, median(ratios), len(ratios), slices.Min(ratios), slices.Max(ratios), median(firsts))
	}
	return nil
}

func gapsUnderPrompt(p *process, length, run int) (ratio, first float64, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	times := make([][]time.Time, 8)
	started := make(chan struct{}, 8*64)
	for i := range times {
		wg.Go(func() {
			complete(
				ctx,
				p,
				query{prompt: fmt.Sprintf("Stream %d of run %d began", i, run), tokens: 500, event: func(t time.Time) {
					times[i] = append(times[i], t)
					if len(times[i]) == 16 {
						started <- struct{}{}
					}
				}},
			)
		})
	}

	for range times {
		<-started
	}

	// A word is a token or more: the server tells how many when it refuses.
	at, err := complete(
		context.Background(), p, query{prompt: fmt.Sprintf("Run %d", run) + strings.Repeat(" a", length-32), tokens: 8},
	)
	cancel()
	wg.Wait()
	if err != nil {
		return 0, 0, err
	}

	for _, stream := range times {
		var gaps []float64
		for k := 1; k < len(stream); k++ {
			gaps = append(gaps, stream[k].Sub(stream[k-1]).Seconds())
		}
		ratio = max(ratio, slices.Max(gaps)/median(gaps))
	}
	return ratio, at.Seconds(), nil
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
