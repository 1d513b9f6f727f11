package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"serve/egress"
	"serve/flagset"
	"serve/hub"
	"serve/loadgen"
	"serve/registry"
)

// benchOptions are the flags of bench.
type benchOptions struct {
	loadgen.Workload
	modelConfig

	trace       string
	completions bool
	target      string // the model to request
	against     string
	report      string
	json        bool
}

func newBenchCommand(w *cli) *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench URL|MODEL|FILE.json",
		Short: "measure the performance of a server under load",
		Long: `bench sends requests from many concurrent clients to any server with OpenAI's API,
and measures time to first token, time between tokens, and throughput. Given a MODEL,
it starts its own server.

Each client sends its next request when the previous one is answered. With --rate,
requests arrive at random at that average rate, no matter how many are running. A
--trace file lists requests and when to send them: JSON lines with timestamp (ms),
input_length, output_length and hash_ids, as in Mooncake's traces. No two prompts
begin with the same words unless --shared-prefix is set; --seed determines the words.

Lengths are in tokens: 128, or 100-500 for a random length in between. bench first
asks the server how many tokens a word takes. Answers run to their full length
(ignore_eos) unless --natural is given.

If the server is serve, the results are compared with its own /metrics.

The output of --json can be read back: as FILE.json, or with --against, which
compares two runs. --report writes charts of them.`,
		Example: `  serve bench mistral-7b
  serve bench http://127.0.0.1:8080 --clients 32 --prompt 100-500 --answer 128
  serve bench http://127.0.0.1:8080 --json > before.json
  serve bench http://127.0.0.1:8080 --against before.json --report change.svg`,
		Args:              arguments(1, 1, "a URL, a model or a file"),
		Annotations:       map[string]string{needs: egress.Listens + egress.Asks},
		ValidArgsFunction: w.completeModel,
		RunE:              func(cmd *cobra.Command, args []string) error { return runBench(cmd.Context(), w, o, args[0]) },
	}
	o.declare(flagsOf(cmd))
	w.reach.Declare(flagsOf(cmd))
	return cmd
}

// declare declares the flags of bench.
func (o *benchOptions) declare(f flagset.Set) {
	f.IntVar(&o.Clients, "clients", 0, "number of concurrent clients; 0 for eight, unless there is a --rate")
	f.Float64Var(&o.Rate, "rate", 0, "average number of requests per second, instead of --clients")
	f.IntVar(&o.Requests, "requests", 0, "total number of requests; 0 for eight per client, at least 64")
	lengths(f, &o.Prompt, "prompt", "`length` of a prompt, in tokens")
	lengths(f, &o.Answer, "answer", "`length` of an answer, in tokens")
	f.IntVar(&o.Shared, "shared-prefix", 0, "length of the shared prefix, in tokens")
	f.IntVar(&o.Groups, "prefix-groups", 1, "number of different shared prefixes")
	f.Text(&o.trace, "trace", "", "`file` of requests to replay, instead of generating them from the other flags")
	f.Toggle(&o.Natural, "natural", false, "let the model decide where answers end")
	f.Toggle(&o.completions, "completions", false, "send completion requests instead of chat completion requests")
	f.Text(&o.target, "model", "", "`model` to use on the server at URL; by default its first")
	f.Uint64Var(&o.Seed, "seed", 1, "random seed for prompts, lengths and arrivals")
	f.Text(&o.against, "against", "", "earlier run to compare with: a `file` written by --json")
	f.Text(&o.report, "report", "", "SVG `file` to write charts of the results to")
	f.JSON(&o.json)
	o.modelConfig.declare(f)
}

// lengths declares a flag for lengths in tokens.
func lengths(f flagset.Set, p *loadgen.Lengths, name, usage string) {
	*p = loadgen.Lengths{Least: 128, Most: 128}
	flagset.Parsed(f, p, name, "lengths", loadgen.ParseLengths, loadgen.Lengths.String, usage)
}

func runBench(ctx context.Context, w *cli, o benchOptions, target string) error {
	requests, err := o.plan()
	if err != nil {
		return err
	}
	var against *loadgen.Report
	if o.against != "" {
		against, err = readReport(o.against)
		if err != nil {
			return err
		}
	}

	var r *loadgen.Report
	var stopped error
	if strings.HasSuffix(target, ".json") {
		r, err = readReport(target)
	} else {
		r, err = w.measure(ctx, o, target, requests)
		if r != nil { // interrupted: print what was measured until then
			stopped = err
			err = nil
		}
	}
	if err != nil {
		return err
	}

	if err := w.printBench(o, r, against); err != nil {
		return err
	}
	if stopped == nil && r.Answered == 0 {
		return errors.New("no request was answered")
	}
	return stopped
}

// plan returns the requests of the workload that the flags describe.
func (o *benchOptions) plan() ([]loadgen.Request, error) {
	o.Chat = !o.completions
	if o.trace == "" {
		list, err := o.Plan()
		if err != nil {
			return nil, usageError{err}
		}
		return list, nil
	}

	f, err := os.Open(o.trace)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := o.Replay(o.trace, f)
	if err != nil {
		return nil, usagef("--trace: %w", err)
	}
	return list, nil
}

// measure runs the workload against a URL, or against a model served for this run.
func (w *cli) measure(
	ctx context.Context, o benchOptions, target string, requests []loadgen.Request,
) (*loadgen.Report, error) {
	server := registry.Server{URL: target}
	model := o.target
	d := w.dialer()
	key, err := d.Key()
	if err != nil {
		return nil, err
	}
	key = key.Or(w.lookup("OPENAI_API_KEY"))
	if !strings.Contains(target, "://") {
		url, done, err := w.serveFor(ctx, ctx, o.modelConfig, target)
		if err != nil {
			return nil, err
		}
		defer done()
		server.URL = url
		model = ""
		key = registry.Key{}
	}

	transport, err := d.Transport(server, key)
	if err != nil {
		return nil, err
	}
	run := loadgen.Run{
		Client:   &loadgen.Client{URL: server.URL, Key: key.Secret, HTTP: loadgen.NewHTTP(transport)},
		Model:    model,
		Workload: o.Workload,
		Requests: requests,
	}
	names, err := run.Client.Models(ctx)
	if err != nil {
		return nil, registry.Explain(server, err)
	}
	if run.Model == "" && len(names) > 0 {
		run.Model = names[0]
	}
	if !slices.Contains(names, run.Model) {
		err := usagef("%s has no model %q", server.URL, run.Model)
		return nil, withHint(err, "set --model to one of %s", strings.Join(names, ", "))
	}

	w.t.Note("%s at %s: %s", run.Model, server.URL, o.Workload)
	if bar := w.t.Counter(len(requests)); bar != nil {
		run.Done = func(ended, _ int) { _ = bar.Set(ended) }
		defer func() { _ = bar.Clear() }()
	}
	return run.Do(ctx)
}

// printBench prints the results, and writes charts of them if requested.
func (w *cli) printBench(o benchOptions, r, against *loadgen.Report) error {
	if o.report != "" {
		if err := hub.WriteFile(o.report, loadgen.SVG(r, against), 0o644); err != nil {
			return err
		}
		w.t.Note("wrote %s", o.report)
	}
	if o.json {
		return w.t.PrintJSON(r)
	}

	if err := w.t.Table(loadgen.Table(r, against)); err != nil {
		return err
	}
	w.printHistogram("time to first token", r.First)
	w.printHistogram("time between tokens", r.Gap)

	for text, count := range r.Errors {
		w.t.Note("%d requests failed: %s", count, text)
	}
	for _, line := range r.Comparison() {
		w.t.Note("%s", line)
	}
	return nil
}

func (w *cli) printHistogram(name string, d loadgen.Distribution) {
	if d.Count == 0 {
		return
	}
	plain := w.lookup("TERM") == "dumb"
	fmt.Fprintf(w.t.Out, "\n%s\n%s\n", name, strings.Join(d.Histogram(w.t.Width(), plain), "\n"))
}

func readReport(name string) (*loadgen.Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	r, err := loadgen.ReadReport(f)
	if err != nil {
		err := usagef("%s does not contain the results of a run", name)
		return nil, withHint(err, "write such a file with serve bench URL --json > %s", name)
	}
	return r, nil
}
