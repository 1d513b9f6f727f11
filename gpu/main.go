// Command gpu tries serve on a machine with a GPU that is lent for some minutes: the rows of docs/gpu.md, then its
// speed beside llama-server and the bare engine. It needs no network and no compiler there: make gpu-kit packs it with
// the programs that it starts, and it writes its models itself. It ends by itself, and says what it left out.
//
//	gpu -bin FOLDER -out FOLDER -for 8m
//	gpu -bin FOLDER -out FOLDER -stages rows,8b
//	gpu -bin FOLDER -out FOLDER -rehearse
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
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	bin      string
	peers    string
	out      string
	limit    time.Duration
	stages   []string
	beside   string
	only     string
	rehearse bool
	threads  int
	price    float64
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "gpu:", err)
		os.Exit(1)
	}
}

func parse(args []string, messages io.Writer) (*options, error) {
	var o options
	var chosen string
	f := flag.NewFlagSet("gpu", flag.ContinueOnError)
	f.SetOutput(messages)
	f.StringVar(&o.bin, "bin", ".", "folder of serve and bench")
	f.StringVar(&o.peers, "peers", "", "folder of llama-server and llama-batched-bench; by default that of -bin")
	f.StringVar(&o.out, "out", "gpu-results", "folder for report.md, results.json and log.txt")
	f.DurationVar(&o.limit, "for", 8*time.Minute, "time after which it ends")
	f.StringVar(&chosen, "stages", strings.Join(stageNames(), ","), "what is done, in this order")
	f.StringVar(&o.only, "row", "", "only rows that begin with this")
	f.StringVar(&o.beside, "beside", "", "what serve is compared with (bench -h), instead of what each stage has")
	f.BoolVar(&o.rehearse, "rehearse", false, "with tiny models and few clients, also without a GPU")
	f.IntVar(&o.threads, "threads", 8, "threads that compute on the CPU")
	f.Float64Var(&o.price, "price", 2.95, "dollars that an hour of the machine costs")
	if err := f.Parse(args); err != nil {
		return nil, err
	}

	if o.peers == "" {
		o.peers = o.bin
	}
	o.stages = strings.Split(chosen, ",")
	for _, name := range o.stages {
		if !slices.Contains(stageNames(), name) {
			return nil, fmt.Errorf("no stage is called %q; there are %s", name, strings.Join(stageNames(), ", "))
		}
	}
	if o.limit <= 0 || o.threads < 1 || o.price < 0 {
		return nil, errors.New("-for and -threads must be positive, and -price not negative")
	}
	return &o, nil
}

// run does the stages until the time is over.
func run(ctx context.Context, args []string) (err error) {
	o, err := parse(args, os.Stderr)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "gpu")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	log, err := os.Create(filepath.Join(o.out, "log.txt"))
	if err != nil {
		return err
	}
	defer log.Close()

	// Another user tries a row, and what servers keep is this run's own.
	if err := os.Chmod(work, 0o755); err != nil {
		return err
	}
	if err := os.Setenv("SERVE_HOME", filepath.Join(work, "home")); err != nil {
		return err
	}
	k := &kit{options: o, work: work, begin: time.Now(), log: io.MultiWriter(os.Stdout, log)}
	k.meter = startMeter(ctx)
	defer k.meter.stop()
	return k.run(ctx)
}
