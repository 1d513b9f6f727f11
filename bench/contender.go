package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"serve/bench/launch"
)

// contender is one of those that are compared: a server, or the bare engine.
type contender struct {
	name   string
	serve  bool // whether it is serve
	start  func(need) (*launch.Server, error)
	engine *engine // instead of start
}

// need is what a scenario wants of its servers.
type need struct {
	slots      int // requests that are computed at a time
	context    int // tokens of a request, prompt and answer
	serveFlags []string
	tools      bool // whether the chat template must have tools
}

// Contenders beside serve.
const (
	plain       = "llama-server" // as its users start it: with a model, and nothing that changes how it batches
	tuned       = "tuned"        // as many slots as clients, each with a KV stream of its own: its fastest form on CPUs
	tunedBS     = "tuned-bs"     // the same, sampling where the logits are
	bare        = "bare"         // llama-batched-bench
	oneBuffer   = "one-buffer"   // serve with a KV buffer that its slots share
	withFlags   = "flags:"       // serve with more flags, such as flags:--kernels haswell
	anotherFile = "serve:"       // another binary of serve, of an earlier commit or another build
)

var peerNames = []string{plain, tuned, tunedBS, bare}

// contenders are serve and those that it is compared with. The template is for llama-server where tools are needed;
// empty for the model's own.
func (o *options) contenders(model, template string) ([]contender, error) {
	list := []contender{o.serveContender("serve", o.serve, model, fixed())}
	for _, name := range o.beside {
		flags, hasFlags := strings.CutPrefix(name, withFlags)
		file, namesFile := strings.CutPrefix(name, anotherFile)
		switch {
		case name == plain:
			list = append(list, o.peer(name, model, template, func(need) []string { return nil }))
		case name == tuned:
			list = append(list, o.peer(name, model, template, tunedFlags))
		case name == tunedBS:
			list = append(list, o.peer(name, model, template, func(n need) []string {
				return append(tunedFlags(n), "--backend-sampling")
			}))
		case name == bare:
			path := filepath.Join(o.peers, "llama-batched-bench")
			list = append(list, contender{name: name, engine: &engine{path, model, o.threads}})
		case name == oneBuffer:
			list = append(list, o.serveContender(name, o.serve, model, sharedCells))
		case hasFlags:
			list = append(list, o.serveContender(name, o.serve, model, fixed(strings.Fields(flags)...)))
		case namesFile:
			list = append(list, o.serveContender(name, file, model, fixed()))
		default:
			return nil, fmt.Errorf("-beside %q: there are %s, %s, %sFLAGS and %sFILE", name, strings.Join(peerNames, ", "),
				oneBuffer, withFlags, anotherFile)
		}
	}

	if all := names(list); len(slices.Compact(slices.Sorted(slices.Values(all)))) < len(all) {
		return nil, errors.New("-beside names something twice")
	}
	return list, nil
}

func names(contenders []contender) (list []string) {
	for _, c := range contenders {
		list = append(list, c.name)
	}
	return list
}

// fixed are flags that do not depend on what is needed.
func fixed(flags ...string) func(need) []string { return func(need) []string { return flags } }

// sharedCells are fewer than the slots could fill, which makes them share one buffer, by too few to be missed. One slot
// has one buffer.
func sharedCells(n need) []string {
	const missing = 64
	if n.slots == 1 {
		return nil
	}
	return []string{"--kv-cells", strconv.Itoa(n.slots*n.context - missing)}
}

// serveContender is a binary of serve with flags.
func (o *options) serveContender(name, binary, model string, flagsFor func(need) []string) contender {
	return contender{name: name, serve: true, start: func(n need) (*launch.Server, error) {
		flags := slices.Concat(flagsFor(n), o.serveFlags)
		args := []string{model, "--parallel", strconv.Itoa(n.slots), "--ctx-size", strconv.Itoa(n.context),
			"--threads", strconv.Itoa(o.threads), "--log-level", "warn"}
		s, err := launch.Command{Name: name, Path: binary, Args: slices.Concat(args, n.serveFlags, flags)}.Start()
		if err == nil && !slices.Contains(flags, "--isolate=false") {
			s.Crash = s.CrashEngine
		}
		return s, err
	}}
}

// peer is llama-server with flags for what a scenario needs.
func (o *options) peer(name, model, template string, flags func(need) []string) contender {
	return contender{name: name, start: func(n need) (*launch.Server, error) {
		args := []string{"-m", model, "-t", strconv.Itoa(o.threads), "-lv", "1"}
		if n.tools && template != "" {
			args = append(args, "--chat-template-file", template)
		}
		path := filepath.Join(o.peers, "llama-server")
		return launch.Command{Name: name, Path: path, Args: append(args, flags(n)...)}.Start()
	}}
}

func tunedFlags(n need) []string {
	return []string{"-np", strconv.Itoa(n.slots), "-c", strconv.Itoa(n.context * n.slots), "--no-kv-unified"}
}
