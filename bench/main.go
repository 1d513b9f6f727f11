// Command bench measures serve beside llama-server and the bare engine, all of
// one tree, in one run: see docs/performance.md. It prints tables of medians of
// several rounds and of their ratios. Nothing asserts a time.
//
//	go run ./bench -json build/bench.json MODEL.gguf...
//	go run ./bench -workloads agent,restart MODEL.gguf...
//	go run ./bench -workloads single,crowd -beside 'flags:--kernels haswell,serve:bin/serve-native' MODEL.gguf...
//	go run ./bench -beside serve:OLD/bin/serve MODEL.gguf...
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"serve/models"
)

// options are the flags. Lengths are in tokens.
type options struct {
	serve         string
	serveFlags    []string
	peers         string
	beside        []string
	workloads     []string
	rounds        int
	clients       []int
	requests      int
	prompt        int
	tokens        int
	limit         time.Duration
	threads       int
	conversations int
	history       int
	turns         int
	depths        []int
	longPrompt    int
	seed          uint64
	json          string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// parse reads the flags, and returns the models' files, too. Messages get the usage if a flag is wrong.
func parse(args []string, messages io.Writer) (*options, []string, error) {
	var o options
	var serveFlags, beside, chosen, clients, depths string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(messages)
	f.StringVar(&o.serve, "serve", "bin/serve", "the serve binary")
	f.StringVar(&serveFlags, "serve-flags", "", "additional flags of serve, with spaces between them")
	f.StringVar(&o.peers, "peers", filepath.Join("build/llama", runtime.GOARCH, "peers/bin"),
		"folder of llama-server and llama-batched-bench")
	f.StringVar(&beside, "beside", strings.Join(peerNames, ","),
		"what serve is compared with, also one-buffer, flags:FLAGS and serve:FILE, another binary")
	f.StringVar(&chosen, "workloads", strings.Join(defaultWorkloads(), ","), "workloads, or all: "+
		strings.Join(workloadNames(), ", "))
	f.IntVar(&o.rounds, "rounds", 5, "rounds, of which the median counts")
	f.StringVar(&clients, "clients", "8,32", "crowd: numbers of clients")
	f.IntVar(&o.requests, "requests", 4, "single, crowd, shared, overload: requests of a client in a round")
	f.IntVar(&o.prompt, "prompt", 50, "single, crowd, overload: tokens of a prompt")
	f.IntVar(&o.tokens, "tokens", 128,
		"tokens of an answer; a quarter of that in agent, restart and depth, four times in tools")
	f.IntVar(&o.threads, "threads", 2, "threads that compute")
	f.IntVar(&o.conversations, "conversations", 12, "agent, restart: conversations, four for each slot")
	f.IntVar(&o.history, "history", 1000, "agent, restart: tokens of a conversation's first message")
	f.IntVar(&o.turns, "turns", 4, "agent: turns of a conversation")
	f.StringVar(&depths, "depths", "128,2048,8192,16384", "depth: tokens of context")
	f.IntVar(&o.longPrompt, "long-prompt", 4000, "gaps: tokens of the prompt that arrives while 8 streams run")
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()),
		"seed of the prompts; by default the time, so that nothing kept from an earlier run helps")
	f.DurationVar(&o.limit, "for", 0, "time after which nothing is begun that was not; 0 for no limit")
	f.StringVar(&o.json, "json", "", "file for the results as JSON, with those of each round")
	if err := f.Parse(args); err != nil {
		return nil, nil, err
	}

	o.serveFlags = strings.Fields(serveFlags)
	o.beside = list(beside)
	o.workloads = list(chosen)
	if chosen == "all" {
		o.workloads = workloadNames()
	}
	for _, name := range o.workloads {
		if !slices.Contains(workloadNames(), name) {
			return nil, nil, fmt.Errorf("no workload is called %q; there are %s", name, strings.Join(workloadNames(), ", "))
		}
	}
	if min(o.rounds, o.requests, o.prompt, o.tokens, o.threads, o.turns, o.history, o.longPrompt) < 1 {
		return nil, nil, errors.New("numbers must be at least 1")
	}
	if o.conversations < slotShare {
		return nil, nil, fmt.Errorf("-conversations must be at least %d, one slot's", slotShare)
	}

	var errs [2]error
	o.clients, errs[0] = numbers(clients)
	o.depths, errs[1] = numbers(depths)
	return &o, f.Args(), errors.Join(errs[:]...)
}

// list reads values with commas between them.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

// numbers reads positive numbers with commas between them.
func numbers(text string) (n []int, err error) {
	for _, field := range list(text) {
		v, err := strconv.Atoi(field)
		if err != nil || v < 1 {
			return nil, fmt.Errorf("%q is no positive number", field)
		}
		n = append(n, v)
	}
	return n, nil
}

// run measures each model and prints its tables.
func run(ctx context.Context, args []string) error {
	o, files, err := parse(args, os.Stderr)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("name the GGUF files of models")
	}

	// Files that serve keeps, such as which kernels are fastest, are this run's own.
	home, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	if err := os.Setenv("SERVE_HOME", home); err != nil {
		return err
	}

	over := timer(o.limit)
	var reports []*report
	var failed []error
	for _, file := range files {
		header, err := models.ReadHeader(file)
		if err != nil {
			return err
		}
		template, err := templateFor(header, home)
		if err != nil {
			return err
		}
		contenders, err := o.contenders(file, template)
		if err != nil {
			return err
		}

		r := newReport(o, filepath.Base(file), names(contenders))
		reports = append(reports, r)
		fmt.Print(r.heading())
		err = o.measure(ctx, r, contenders, header.TrainContext(), over, func() error { return write(o.json, reports) })
		fmt.Print(r.markdown())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// timer returns a function that reports whether a time is over from now on, which 0 never is.
func timer(limit time.Duration) func() bool {
	begin := time.Now()
	return func() bool { return limit > 0 && time.Since(begin) > limit }
}

// measure plays the chosen workloads for one model, whose trained context is given, 0 if unknown, until the time is
// over. After each, save is called: a run that is stopped leaves what it has measured. The error has what failed.
func (o *options) measure(
	ctx context.Context, r *report, contenders []contender, trained int, over func() bool, save func() error,
) error {
	var failed []error
	for _, w := range workloads {
		if !slices.Contains(o.workloads, w.name) {
			continue
		}
		for _, sc := range w.scenarios(o, trained) {
			if over() {
				sc = leftOut(sc.name, "the time is over")[0]
			}
			result := play(ctx, &sc, contenders, o.rounds, over, func(text string) {
				fmt.Fprintf(os.Stderr, "bench: %s: %s: %s\n", r.Model, sc.name, text)
			})
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.Results = append(r.Results, result)
			failed = append(failed, result.failure())
			if err := save(); err != nil {
				return err
			}
		}
	}
	return errors.Join(failed...)
}
