package service

import (
	"context"

	"serve/engine"
	"serve/pool"
)

// Reply is what a model is generating for a request: one stream for each of its prompts.
type Reply struct {
	Model   *pool.Lease
	Streams []*engine.Stream
	// Verify takes every event before it is told to the client, and fails where an answer ends
	// that breaks what was promised of it. It is nil if nothing was.
	Verify func(*engine.Event) error
}

// NewReply returns a reply without streams. It takes over the lease.
func NewReply(model *pool.Lease) *Reply { return &Reply{Model: model} }

// Generate begins another stream, in the name of who asked. All of them are one request.
func (r *Reply) Generate(ctx context.Context, er engine.Request) error {
	call := CallOf(ctx)
	er.Client = call.Client
	if len(r.Streams) > 0 {
		er.Beside = r.Streams[0]
	}

	stream, err := r.Model.Engine.Generate(ctx, er)
	if err != nil {
		return err
	}
	call.note(Work{Model: r.Model.ID, Request: &er, Stream: stream})
	r.Streams = append(r.Streams, stream)
	return nil
}

// Read reads one stream to its end.
func (r *Reply) Read(ctx context.Context, stream *engine.Stream, each func(*engine.Event)) error {
	for {
		events, err := stream.Next(ctx)
		if err != nil || events == nil {
			return err
		}
		for i := range events {
			if r.Verify != nil {
				if err := r.Verify(&events[i]); err != nil {
					return err
				}
			}
			each(&events[i])
		}
	}
}

// Usage is what each stream has cost so far.
func (r *Reply) Usage() []engine.Usage {
	list := make([]engine.Usage, len(r.Streams))
	for i, stream := range r.Streams {
		list[i] = stream.Usage()
	}
	return list
}

// Close ends what still runs, and gives the model back.
func (r *Reply) Close() {
	for _, stream := range r.Streams {
		stream.Close()
	}
	r.Model.Release()
}
