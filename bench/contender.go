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
	oneProcess  = "one-process"  // serve without a process for the engine
	kernelsOf   = "kernels:"     // serve with kernels that are named
	anotherFile = "serve:"       // another binary of serve, of an earlier commit or another build
)

var peerNames = []string{plain, tuned, tunedBS, bare}

// contenders are serve and those that it is compared with. The template is for llama-server where tools are needed;
// empty for the model's own.
func (o *options) contenders(model, template string) ([]contender, error) {
	list := []contender{o.serveContender("serve", o.serve, model)}
	for _, name := range o.beside {
		kernels, namesKernels := strings.CutPrefix(name, kernelsOf)
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
		case name == oneProcess:
			list = append(list, o.serveContender(name, o.serve, model, "--isolate=false"))
		case namesKernels:
			list = append(list, o.serveContender(name, o.serve, model, "--kernels", kernels))
		case namesFile:
			list = append(list, o.serveContender(name, file, model))
		default:
			return nil, fmt.Errorf("-beside %q: there are %s, %s, %sNAME and %sFILE", name, strings.Join(peerNames, ", "),
				oneProcess, kernelsOf, anotherFile)
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

// serveContender is a binary of serve with flags.
func (o *options) serveContender(name, binary, model string, flags ...string) contender {
	flags = slices.Concat(flags, o.serveFlags)
	return contender{name: name, serve: true, start: func(n need) (*launch.Server, error) {
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
