package service

import (
	"context"
	"slices"

	"serve/access"
	"serve/engine"
	"serve/pool"
)

// Reply is the answer that a model is generating: one stream for each prompt of the request.
type Reply struct {
	Model   *pool.Lease
	Streams []*engine.Stream
	// Verify is called with every event by Take. It returns an error at the end of an answer that violates its schema. It
	// is nil if there is nothing to verify.
	Verify func(*engine.Event) error
	// Notes say what was changed in the conversation so that the model's template takes it.
	Notes []string
	// NotEnforced lists the parts of the conversation's schemas that are not enforced.
	NotEnforced []string

	call    *Call       // of the request; nil before it has streams
	first   int         // the auditor's number of the first stream
	use     *access.Use // of the request; nil for no limits
	answers int         // that are reserved of it
	bound   int         // of their tokens, which are reserved, too
}

// NewReply returns a reply without streams. Close releases the lease.
func NewReply(model *pool.Lease) *Reply { return &Reply{Model: model} }

// GenerateAll starts a stream for each of several prompts, on behalf of the context's client. They count as one request
// in the queue, which has a place for all of them or for none.
func (r *Reply) GenerateAll(ctx context.Context, requests []engine.Request) error {
	size := r.Model.Engine.Limits().Context
	need := needOf(requests, size)
	call := CallOf(ctx)
	r.use = call.Use
	each, err := r.use.Reserve(need)
	if err != nil {
		return err
	}
	r.answers += need.Answers
	r.bound += need.Answers * each

	requests = slices.Clone(requests)
	for i := range requests {
		requests[i].Together = need.Prompt
		if call.Seed != nil {
			requests[i].Sampling.Seed = *call.Seed
		}
		if each < longest(&requests[i], size) {
			requests[i].MaxTokens = each
		}
	}
	if err := r.audit(ctx, requests); err != nil {
		return err
	}
	for _, er := range requests {
		if err := r.generate(ctx, er); err != nil {
			return err
		}
	}
	return nil
}

// longest returns how many tokens an answer to a request has at most, in a context of a size.
func longest(r *engine.Request, size int) int {
	room := max(size-len(r.Prompt), 1)
	if r.MaxTokens > 0 {
		return min(r.MaxTokens, room)
	}
	return room
}

// needOf returns what requests take together. All answers count as the longest.
func needOf(requests []engine.Request, size int) (n access.Need) {
	for i := range requests {
		r := &requests[i]
		n.Answers += max(r.Choices, 1)
		n.Prompt += len(r.Prompt)
		n.Each = max(n.Each, longest(r, size))
		n.Least = max(n.Least, int(r.Sampling.MinTokens))
		n.Elastic = n.Elastic || r.MaxTokens == 0
	}
	return n
}

// audit records the requests before anything is computed for them.
func (r *Reply) audit(ctx context.Context, requests []engine.Request) error {
	r.call = CallOf(ctx)
	if r.call.Audit == nil {
		return nil
	}
	works := make([]Asked, len(requests))
	for i := range requests {
		works[i].Request = &requests[i]
	}
	first, err := r.call.begins(ctx, r.Model, works)
	r.first = first - len(r.Streams)
	return err
}

// Generate starts a stream on behalf of the context's client.
func (r *Reply) Generate(ctx context.Context, er engine.Request) error {
	return r.GenerateAll(ctx, []engine.Request{er})
}

func (r *Reply) generate(ctx context.Context, er engine.Request) error {
	call := CallOf(ctx)
	er.Caller = call.caller(er.Tier)
	if len(r.Streams) > 0 {
		er.Beside = r.Streams[0]
	}

	stream, err := r.Model.Engine.Generate(ctx, er)
	if err != nil {
		return err
	}
	call.note(Work{Model: r.Model.ID, Request: &er, Stream: stream})
	if call.Audit != nil {
		call.Audit.Answers(r.first+len(r.Streams), stream)
	}
	r.Streams = append(r.Streams, stream)
	return nil
}

// Take is called with every event of a stream, by its index, before it is sent to the client. It returns an error at
// the end of an answer that violates its schema.
func (r *Reply) Take(stream int, e *engine.Event) error {
	if r.call != nil && r.call.Audit != nil {
		r.call.Audit.Drew(r.first+stream, e)
	}
	if r.Verify == nil {
		return nil
	}
	return r.Verify(e)
}

// Read reads one stream to its end, and verifies its events.
func (r *Reply) Read(ctx context.Context, stream *engine.Stream, each func(*engine.Event)) error {
	index := slices.Index(r.Streams, stream)
	for {
		events, err := stream.Next(ctx)
		if err != nil || events == nil {
			return err
		}
		for i := range events {
			if err := r.Take(index, &events[i]); err != nil {
				return err
			}
			each(&events[i])
		}
	}
}

// Usage returns the usage of each stream so far.
func (r *Reply) Usage() []engine.Usage {
	list := make([]engine.Usage, len(r.Streams))
	for i, stream := range r.Streams {
		list[i] = stream.Usage()
	}
	return list
}

// Close cancels the streams and releases the model, and what the request has reserved for them and not used: it may ask
// for other answers then.
func (r *Reply) Close() {
	for _, stream := range r.Streams {
		stream.Close()
		r.bound -= stream.Usage().Completion
	}
	r.use.Release(r.answers, max(r.bound, 0))
	r.answers = 0
	r.bound = 0
	r.Model.Release()
}
