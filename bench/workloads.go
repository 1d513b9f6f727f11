package main

import (
	"context"
	"errors"
	"fmt"

	"serve/bench/launch"
	"serve/loadgen"
)

// workloads in the order in which they are measured.
var workloads = []workload{
	{name: "single", scenarios: single},
	{name: "crowd", scenarios: crowd},
	{name: "shared", scenarios: shared},
	{name: "agent", scenarios: agent},
	{name: "restart", scenarios: restart},
	{name: "depth", scenarios: depth},
	{name: "repeat", scenarios: repeat},
	{name: "tools", scenarios: tools},
	{name: "gaps", scenarios: gaps, byName: true},
	{name: "flood", scenarios: flood, byName: true},
	{name: "overload", scenarios: overload, byName: true},
	{name: "schemas", scenarios: schemas, byName: true},
}

func workloadNames() (list []string) {
	for _, w := range workloads {
		list = append(list, w.name)
	}
	return list
}

func defaultWorkloads() (list []string) {
	for _, w := range workloads {
		if !w.byName {
			list = append(list, w.name)
		}
	}
	return list
}

// slots is how many requests a server computes at a time where the number of clients is not what is measured.
const slots = 8

func single(o *options, _ int) []scenario {
	return []scenario{o.closedLoops("single", "one client, prompts all different", 1, o.prompt, 0)}
}

func crowd(o *options, _ int) (list []scenario) {
	for _, clients := range o.clients {
		list = append(list, o.closedLoops(fmt.Sprintf("crowd, %d", clients),
			fmt.Sprintf("%d clients, prompts all different", clients), clients, o.prompt, 0))
	}
	return list
}

func shared(o *options, _ int) []scenario {
	const prompt, common = 300, 270
	return []scenario{o.closedLoops("shared",
		fmt.Sprintf("%d clients, prompts that have their first %d tokens in common", slots, common), slots, prompt, common)}
}

// roomFor is the context for prompts and answers of so many tokens, since prompts are only about as long as planned.
func roomFor(prompt, answer int) int { return roundUp(prompt + prompt/16 + answer + 64) }

// roundUp makes a context of the kind that users ask for.
func roundUp(tokens int) int {
	const step = 512
	return (tokens + step - 1) / step * step
}

var (
	throughput = metric{"output", "tokens/s", higher}
	firstToken = metric{"first token", "ms", lower}
	longestGap = metric{"gaps, 99th percentile", "ms", lower}
	fromCache  = metric{"prompt from the cache", "%", ""}
)

// closedLoops has clients that send a request when their last is answered.
func (o *options) closedLoops(name, about string, clients, prompt, common int) scenario {
	sc := scenario{
		name:    name,
		about:   fmt.Sprintf("%s; prompts of %d tokens, answers of %d", about, prompt, o.tokens),
		need:    need{slots: clients, context: roomFor(prompt, o.tokens)},
		metrics: []metric{throughput, firstToken, longestGap},
	}
	if common > 0 {
		sc.metrics = append(sc.metrics, fromCache)
	}

	sc.measure = func(ctx context.Context, s *launch.Server, round int) (figures, error) {
		return o.closedLoop(ctx, s, loadgen.Workload{
			Clients:  clients,
			Requests: clients * o.requests,
			Prompt:   loadgen.Lengths{Least: prompt, Most: prompt},
			Answer:   loadgen.Lengths{Least: o.tokens, Most: o.tokens},
			Shared:   common,
			Seed:     o.roundSeed(round),
		})
	}

	if common == 0 { // the bare engine computes all of each prompt
		sc.engine = func(ctx context.Context, e *engine) (figures, error) {
			row, err := e.run(ctx, clients, prompt, o.tokens)
			return figures{throughput.Name: float64(clients*o.tokens) / row.Seconds}, err
		}
	}
	return sc
}

// roundSeed is the seed of a round's prompts: the same for all contenders, another in each round.
func (o *options) roundSeed(round int) uint64 { return o.seed + uint64(round) }

// closedLoop is one round.
func (o *options) closedLoop(ctx context.Context, s *launch.Server, w loadgen.Workload) (figures, error) {
	requests, err := w.Plan()
	if err != nil {
		return nil, err
	}
	run := loadgen.Run{Client: s.Client, Model: s.Model, Workload: w, Requests: requests}
	r, err := run.Do(ctx)
	if err != nil {
		return nil, err
	}
	if r.Answered < len(requests) {
		return nil, fmt.Errorf("%d of %d requests were answered: %v", r.Answered, len(requests), r.Errors)
	}

	f := figures{
		throughput.Name: r.TokensPerSecond,
		firstToken.Name: 1000 * r.First.P50,
		longestGap.Name: 1000 * r.Gap.P99,
	}
	if w.Shared > 0 {
		f[fromCache.Name] = percent(r.CachedTokens, r.PromptTokens)
	}
	return f, nil
}

func percent(part, of int) float64 {
	if of == 0 {
		return 0
	}
	return 100 * float64(part) / float64(of)
}

// greedy are the fields of requests whose answers are as long as is asked.
func greedy() map[string]any { return map[string]any{"temperature": 0, "ignore_eos": true} }

// calibrate returns a writer of a round's prompts.
func (o *options) calibrate(ctx context.Context, s *launch.Server, chat bool, round int) (*loadgen.Writer, error) {
	call := loadgen.Call{Model: s.Model, Chat: chat, Fields: greedy()}
	return s.Client.Calibrate(ctx, call, o.roundSeed(round))
}

// leftOut is a scenario that measures nothing, and says why.
func leftOut(name, why string, args ...any) []scenario {
	return []scenario{{name: name, about: "left out", notes: []string{fmt.Sprintf(why, args...)}}}
}

// errNoTokens is an answer that is too short to have a speed.
var errNoTokens = errors.New("the answer has fewer than two tokens, or came at once")

// decodeRate is the tokens/s of an answer after its first.
func decodeRate(a *loadgen.Answer) (float64, error) {
	if a.Answered < 2 || a.Events < 2 {
		return 0, errNoTokens
	}
	return float64(a.Answered-1) / (a.Took - a.First).Seconds(), nil
}
