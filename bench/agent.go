package main

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"serve/bench/launch"
	"serve/loadgen"
)

// slotShare is how many conversations there are for each slot of a server.
const slotShare = 4

// conversation is one of an agent: every turn sends all of it again.
type conversation struct {
	id       int
	messages []message
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// agents have conversations that take turns, as many at a time as the server has slots.
type agents struct {
	server  *launch.Server
	writer  *loadgen.Writer
	slots   int
	history int // tokens of a first message
	message int // of those that follow
	answer  int
	list    []*conversation
}

// agentLengths are how many conversations there are, and the tokens of their messages.
type agentLengths struct {
	conversations, history, message, answer int
}

// templateTokens is about what a chat's template adds to a message.
const templateTokens = 48

// agentLengths fits histories into the context that the model was trained for. There is no room if the history is 0.
func (o *options) agentLengths(turns, trained int) (l agentLengths, size int) {
	l = agentLengths{conversations: o.conversations, history: o.history, answer: max(o.tokens/4, 1)}
	room := func() int {
		l.message = max(l.history/10, 16)
		// Answers may have more tokens when they are read again.
		turn := l.message + l.message/16 + 2*l.answer + 2*templateTokens
		return l.history + l.history/16 + turns*turn
	}

	for size = room(); trained > 0 && roundUp(size) > trained && l.history > 0; size = room() {
		l.history = max(l.history-16, 0)
	}
	return l, roundUp(size)
}

func (l agentLengths) slots() int { return max(l.conversations/slotShare, 1) }

func (l agentLengths) about() string {
	return fmt.Sprintf("%d conversations, %d at a time in as many slots; first messages of %d tokens, later ones of %d, "+
		"answers of %d; chat completions", l.conversations, l.slots(), l.history, l.message, l.answer)
}

// newAgents returns agents with conversations that have not begun. The warm-up has one of them.
func (o *options) newAgents(ctx context.Context, s *launch.Server, l agentLengths, round int) (*agents, error) {
	w, err := o.calibrate(ctx, s, true, round)
	if err != nil {
		return nil, err
	}
	a := &agents{server: s, writer: w, slots: l.slots(), history: l.history, message: l.message, answer: l.answer}
	for id := range l.conversations {
		a.list = append(a.list, &conversation{id: id})
	}
	if round == 0 {
		a.list = a.list[:1]
	}
	return a, nil
}

// turn has each conversation ask and be answered once, and returns the answers.
func (a *agents) turn(ctx context.Context) ([]loadgen.Answer, error) {
	answers := make([]loadgen.Answer, len(a.list))
	errs := make([]error, len(a.list))
	next := make(chan int)
	var wg sync.WaitGroup
	for range a.slots {
		wg.Go(func() {
			for i := range next {
				answers[i], errs[i] = a.ask(ctx, a.list[i])
			}
		})
	}
	for i := range a.list {
		next <- i
	}
	close(next)
	wg.Wait()

	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("conversation %d, message %d: %w", i+1, len(a.list[i].messages), err)
		}
	}
	return answers, nil
}

// ask adds a message and its answer to a conversation.
func (a *agents) ask(ctx context.Context, c *conversation) (loadgen.Answer, error) {
	length := a.message
	if len(c.messages) == 0 {
		length = a.history
	}
	c.messages = append(c.messages, message{"user", a.writer.Text(length, c.id<<16|len(c.messages))})

	fields := maps.Clone(greedy())
	fields["messages"] = c.messages
	call := loadgen.Call{Model: a.server.Model, Tokens: a.answer, Chat: true, Fields: fields}
	answer, err := a.server.Client.Ask(ctx, call)
	c.messages = append(c.messages, message{"assistant", answer.Text})
	return answer, err
}

// turnMetrics are the figures of a turn that is called so.
func turnMetrics(name string) (first, cached metric) {
	return metric{"first token, " + name, "ms", lower}, metric{"prompt from the cache, " + name, "%", ""}
}

// summarizeTurn adds the figures of a turn that is called so.
func summarizeTurn(f figures, name string, answers []loadgen.Answer) {
	first, cached := turnMetrics(name)
	var times []float64
	var fromCache, prompt int
	reported := true
	for _, a := range answers {
		times = append(times, 1000*a.First.Seconds())
		fromCache += a.Cached
		prompt += a.Prompt
		reported = reported && a.CacheReported
	}

	f[first.Name] = median(times)
	if reported {
		f[cached.Name] = percent(fromCache, prompt)
	}
}

func agent(o *options, trained int) []scenario {
	l, size := o.agentLengths(o.turns, trained)
	if l.history == 0 {
		return leftOut("agent", "%d turns do not fit into the model's context of %d tokens", o.turns, trained)
	}
	sc := scenario{name: "agent", about: l.about(), need: need{slots: l.slots(), context: size}}
	sc.notes = shortened(o, l, trained)

	turnName := func(turn int) string { return fmt.Sprintf("turn %d", turn+1) }
	var shares []metric
	for turn := range o.turns {
		first, cached := turnMetrics(turnName(turn))
		sc.metrics = append(sc.metrics, first)
		if turn > 0 {
			shares = append(shares, cached)
		}
	}
	sc.metrics = append(sc.metrics, shares...)
	sc.measure = o.agentTurns(l, turnName)
	return []scenario{sc}
}

// shortened says that histories are shorter than was asked for.
func shortened(o *options, l agentLengths, trained int) []string {
	if l.history == o.history {
		return nil
	}
	return []string{fmt.Sprintf("first messages have %d tokens, not %d: the model's context has %d",
		l.history, o.history, trained)}
}

// agentTurns measures all turns of all conversations.
func (o *options) agentTurns(
	l agentLengths, turnName func(int) string,
) func(ctx context.Context, s *launch.Server, round int) (figures, error) {
	return func(ctx context.Context, s *launch.Server, round int) (figures, error) {
		a, err := o.newAgents(ctx, s, l, round)
		if err != nil {
			return nil, err
		}
		f := figures{}
		for turn := range o.turns {
			answers, err := a.turn(ctx)
			if err != nil {
				return nil, err
			}
			summarizeTurn(f, turnName(turn), answers)
		}
		return f, nil
	}
}

// Turns of the restart workload.
const (
	beforeCrash  = "before"
	afterCrash   = "after SIGKILL"
	afterRestart = "after stop and start"
)

func restart(o *options, trained int) []scenario {
	const turns = 4
	l, size := o.agentLengths(turns, trained)
	if l.history == 0 {
		return leftOut("restart", "%d turns do not fit into the model's context of %d tokens", turns, trained)
	}

	sc := scenario{
		name: "restart",
		about: l.about() + "; the engine's process (llama-server's only one) gets a SIGKILL after the second turn, and the " +
			"server is stopped and started after the third; times count from when it is ready",
		need:  need{slots: l.slots(), context: size},
		notes: shortened(o, l, trained),
	}
	var shares []metric
	for _, name := range []string{beforeCrash, afterCrash, afterRestart} {
		first, cached := turnMetrics(name)
		sc.metrics = append(sc.metrics, first)
		shares = append(shares, cached)
	}
	sc.metrics = append(sc.metrics, shares...)

	sc.measure = func(ctx context.Context, s *launch.Server, round int) (figures, error) {
		a, err := o.newAgents(ctx, s, l, round)
		if err != nil {
			return nil, err
		}
		if _, err := a.turn(ctx); err != nil || round == 0 {
			return nil, err
		}
		return a.restarts(ctx)
	}
	return []scenario{sc}
}

// restarts measures the turns around a crash and a restart.
func (a *agents) restarts(ctx context.Context) (figures, error) {
	f := figures{}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{beforeCrash, func() error { return nil }},
		{afterCrash, a.server.Crash},
		{afterRestart, a.server.Restart},
	} {
		if err := step.do(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
		answers, err := a.turn(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
		summarizeTurn(f, step.name, answers)
	}
	return f, nil
}
