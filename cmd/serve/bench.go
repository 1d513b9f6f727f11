package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"serve/hub"
	"serve/load"
)

// benchOptions are the flags of bench.
type benchOptions struct {
	load.Workload
	prompt, answer string
	trace          string
	completions    bool
	model          string
	against        string
	report         string
	asJSON         bool
	memory         modelOptions
}

func newBenchCommand(w *workplace) *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench URL|MODEL|FILE.json",
		Short: "measure a server under load",
		Long: `bench has many clients ask a server at once, any that speaks OpenAI's API, and
measures when first tokens came, the gaps between the others, and how many there
were. A MODEL is served for as long as it takes.

Clients send their next request when the last is answered; with --rate, requests
arrive at random, so many a second, whatever comes of them; a trace says itself
when what is asked: lines of JSON with timestamp (ms), input_length, output_length
and hash_ids, as Mooncake's. Every prompt begins like no other, unless
--shared-prefix says otherwise, and is of words drawn with --seed.

Lengths are in tokens: 128, or 100-500 for any between. How many a word has is
asked first. Answers go on to their length, by ignore_eos, unless --natural.

Where the server is a serve, what it says of itself in /metrics is put beside what
was measured.

What --json prints can be read again: as FILE.json, and by --against, which puts
it beside the run. --report draws them.`,
		Example: `  serve bench mistral-7b
  serve bench http://127.0.0.1:8080 --clients 32 --prompt 100-500 --answer 128
  serve bench http://127.0.0.1:8080 --json > before.json
  serve bench http://127.0.0.1:8080 --against before.json --report change.svg`,
		Args:              arguments(1, 1, "a URL, a model or a file"),
		ValidArgsFunction: w.completeModel,
		RunE:              func(cmd *cobra.Command, args []string) error { return runBench(cmd.Context(), w, o, args[0]) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntVar(&o.Clients, "clients", 8, "requests at a time")
	f.Float64Var(&o.Rate, "rate", 0, "requests that arrive a second, instead of clients")
	f.IntVar(&o.Requests, "requests", 0, "requests in all; 0 for eight of each client, or 64")
	f.StringVar(&o.prompt, "prompt", "128", "tokens of a prompt")
	f.StringVar(&o.answer, "answer", "128", "tokens of an answer")
	f.IntVar(&o.Shared, "shared-prefix", 0, "tokens that prompts begin with in common")
	f.IntVar(&o.Groups, "prefix-groups", 1, "different beginnings, each shared by a part of the prompts")
	f.StringVar(&o.trace, "trace", "", "file of requests, instead of all of these")
	f.BoolVar(&o.Natural, "natural", false, "let answers end by themselves")
	f.BoolVar(&o.completions, "completions", false, "ask for completions, not chat completions")
	f.StringVar(&o.model, "model", "", "name of the model to ask at URL; the first of those there by default")
	f.Uint64Var(&o.Seed, "seed", 1, "what prompts, lengths and arrivals are drawn with")
	f.StringVar(&o.against, "against", "", "run to put beside this one: what --json printed")
	f.StringVar(&o.report, "report", "", "SVG file to draw the result, or both, in")
	jsonFlag(cmd, &o.asJSON)
	o.memory.memoryFlags(f)
	return cmd
}

func runBench(ctx context.Context, w *workplace, o benchOptions, target string) error {
	requests, err := o.plan()
	if err != nil {
		return err
	}
	var against *load.Report
	if o.against != "" {
		if against, err = readReport(o.against); err != nil {
			return err
		}
	}
	var r *load.Report
	var stopped error
	if strings.HasSuffix(target, ".json") {
		r, err = readReport(target)
	} else if r, err = w.measure(ctx, o, target, requests); r != nil {
		stopped, err = err, nil // what was measured until then is told
	}
	if err != nil {
		return err
	}
	if err := w.tellBench(o, r, against); err != nil {
		return err
	}
	if stopped == nil && r.Answered == 0 {
		return errors.New("nothing was answered")
	}
	return stopped
}

// plan reads the workload from the flags.
func (o *benchOptions) plan() ([]load.Request, error) {
	bad := func(err error) error { return fmt.Errorf("%w: %w", errUsage, err) }
	o.Chat = !o.completions
	if o.trace != "" {
		f, err := os.Open(o.trace)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		list, err := load.ReadTrace(f)
		if err != nil {
			return nil, bad(fmt.Errorf("--trace %s: %w", o.trace, err))
		}
		o.Workload = load.Workload{Trace: o.trace, Requests: len(list), Natural: o.Natural, Chat: o.Chat, Seed: o.Seed}
		return list, nil
	}
	var err error
	if o.Prompt, err = load.ParseLengths(o.prompt); err != nil {
		return nil, bad(fmt.Errorf("--prompt %w", err))
	}
	if o.Answer, err = load.ParseLengths(o.answer); err != nil {
		return nil, bad(fmt.Errorf("--answer %w", err))
	}
	if o.Rate > 0 {
		o.Clients = 0
	}
	if o.Requests == 0 {
		o.Requests = max(8*o.Clients, 64)
	}
	if err := o.Check(); err != nil {
		return nil, bad(err)
	}
	return o.Plan(), nil
}

// measure runs the workload at a URL, or at a model that is served for it.
func (w *workplace) measure(ctx context.Context, o benchOptions, target string, requests []load.Request) (*load.Report, error) {
	address, key := target, w.lookup("OPENAI_API_KEY")
	if !strings.Contains(target, "://") {
		key = ""
		url, done, err := w.serveFor(ctx, ctx, o.memory, target)
		if err != nil {
			return nil, err
		}
		defer done()
		address, o.model = url, ""
	}
	transport, err := w.transportTo(address)
	if err != nil {
		return nil, err
	}
	run := load.Run{Client: &load.Client{URL: address, Key: key, HTTP: load.NewHTTP(transport)}, Model: o.model, Workload: o.Workload, Requests: requests}
	names, err := run.Client.Models(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its models: %w", address, err)
	}
	if run.Model == "" && len(names) > 0 {
		run.Model = names[0]
	}
	if !slices.Contains(names, run.Model) {
		return nil, withHint(fmt.Errorf("%w: %s has no model %q", errUsage, address, run.Model), "--model: one of %s", strings.Join(names, ", "))
	}
	w.t.note("%s at %s: %s", run.Model, address, o.Workload)
	if bar := newCounter(w.t, len(requests)); bar != nil {
		run.Done = func(ended, _ int) { _ = bar.Set(ended) }
		defer func() { _ = bar.Clear() }()
	}
	return run.Do(ctx)
}

// tellBench says what was measured, and draws it.
func (w *workplace) tellBench(o benchOptions, r, against *load.Report) error {
	if o.report != "" {
		if err := hub.WriteFile(o.report, load.SVG(r, against), 0o644); err != nil {
			return err
		}
		w.t.note("drawn in %s", o.report)
	}
	if o.asJSON {
		return w.t.printJSON(r)
	}
	var rows [][]string
	if against != nil {
		rows = append(rows, []string{"", "this run", "against", ""})
	}
	for _, row := range load.Table(r, against) {
		rows = append(rows, append(append([]string{row.Name}, row.Values...), row.Ratio))
	}
	if err := w.t.table(rows); err != nil {
		return err
	}
	columns, plain := w.t.width(), w.lookup("TERM") == "dumb"
	for _, d := range []struct {
		name string
		of   load.Distribution
	}{{"first token", r.First}, {"gaps", r.Gap}} {
		if d.of.Count > 0 {
			fmt.Fprintf(w.t.out, "\n%s\n%s\n", d.name, strings.Join(d.of.Histogram(columns, plain), "\n"))
		}
	}
	for text, count := range r.Errors {
		w.t.note("%d times: %s", count, text)
	}
	w.compare(r)
	return nil
}

// compare says how what was measured differs from what the server says of itself.
func (w *workplace) compare(r *load.Report) {
	s := r.Server
	if s == nil {
		return
	}
	apart := func(ours, theirs float64) string {
		if theirs == 0 {
			return "none"
		}
		return fmt.Sprintf("%+.2f %%", 100*(ours/theirs-1))
	}
	w.t.note("/metrics of the server says %d choices, %d prompt and %d answer tokens (here %s and %s), first token after %s (%s), then one every %s (%s)",
		s.Choices, s.PromptTokens, s.AnswerTokens, apart(float64(r.PromptTokens), float64(s.PromptTokens)), apart(float64(r.AnswerTokens), float64(s.AnswerTokens)),
		load.Seconds(s.FirstToken), apart(r.First.Mean, s.FirstToken), load.Seconds(s.PerToken), apart(r.PerToken.Mean, s.PerToken))
}

// maxReport bounds a file that a run was kept in.
const maxReport = 64 << 20

func readReport(name string) (*load.Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r load.Report
	d := json.NewDecoder(io.LimitReader(f, maxReport))
	if err := d.Decode(&r); err != nil || r.Model == "" {
		return nil, withHint(fmt.Errorf("%w: %s holds no run", errUsage, name), "write one with serve bench URL --json > %s", name)
	}
	return &r, nil
}

// transportTo reaches a server: one of this machine without any proxy.
func (w *workplace) transportTo(address string) (http.RoundTripper, error) {
	u, err := w.serverAddress(address)
	if err != nil {
		return nil, err
	}
	if here(u) {
		return &http.Transport{}, nil
	}
	network, err := w.network()
	if err != nil {
		return nil, err
	}
	return hub.Transport(network)
}

// width is how many columns results may have.
func (t *terminal) width() int {
	if f, ok := t.out.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns >= 40 {
			return min(columns, 120)
		}
	}
	return 80
}
