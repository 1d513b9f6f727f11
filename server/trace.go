package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"serve/engine"
)

// What is told of a request in a trace: how it came along and how large it was, never what
// it said. Names are OpenTelemetry's, of its semantic conventions for HTTP and for GenAI.

// operations are the endpoints' names among GenAI's operations.
var operations = map[string]string{
	"/chat/completions": "chat", "/responses": "chat", "/completions": "text_completion",
	"/embeddings": "embeddings", "/rerank": "rerank", "/moderations": "moderation",
}

// work is what a model did for a request.
type work struct {
	model   string
	request *engine.Request // nil for embeddings
	stream  *engine.Stream  // nil for embeddings
	tokens  int             // of embeddings' inputs
	begun   time.Time
	ended   time.Time
	err     error
}

// span begins the span of a request that a model may have to work for; others have none.
func (x *exchange) span(tracer trace.Tracer, r *http.Request, route string) *http.Request {
	if tracer == nil || operations[route] == "" || r.Method != http.MethodPost {
		return r
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, x.server = tracer.Start(ctx, r.Method+" "+route, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(x.start),
		trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("http.route", route), attribute.String("serve.request.id", x.id)))
	x.tracer, x.operation = tracer, operations[route]
	return r.WithContext(ctx)
}

// endSpan ends the request's span, and with it those of what models did, unless they go on
// without it.
func (x *exchange) endSpan(ctx context.Context, status int) {
	if x.server == nil {
		return
	}
	x.server.SetAttributes(attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		x.server.SetStatus(codes.Error, "")
		x.server.SetAttributes(attribute.String("error.type", strconv.Itoa(status)))
	}
	x.server.End()
	if !x.detached {
		x.traceWork(ctx)
	}
}

// traceWork makes spans of what models did, now that it is known.
func (x *exchange) traceWork(ctx context.Context) {
	if x.server == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range x.work {
		x.work[i].trace(ctx, x.tracer, x.operation)
	}
	x.work = nil
}

func (w *work) trace(ctx context.Context, tracer trace.Tracer, operation string) {
	attributes := []attribute.KeyValue{
		attribute.String("gen_ai.operation.name", operation), attribute.String("gen_ai.provider.name", "serve"),
		attribute.String("gen_ai.request.model", w.model), attribute.String("gen_ai.response.model", w.model),
	}
	var times engine.Timeline
	if w.stream != nil {
		times = w.stream.Timeline()
		w.begun, w.ended, w.err = times.Arrived, times.Ended, times.Err
		attributes = append(attributes, w.sizes(&times)...)
	} else {
		attributes = append(attributes, attribute.Int("gen_ai.usage.input_tokens", w.tokens))
	}
	if w.ended.IsZero() {
		w.ended = time.Now() // its client has gone: the engine ends it at its next step
	}
	if w.err != nil {
		attributes = append(attributes, attribute.String("error.type", failures[toFault(w.err, "").Kind].code))
	}
	ctx, span := tracer.Start(ctx, operation+" "+w.model, trace.WithTimestamp(w.begun), trace.WithAttributes(attributes...))
	if w.err != nil {
		span.SetStatus(codes.Error, "")
	}
	for _, phase := range []struct {
		name     string
		from, to time.Time
	}{{"queue", times.Arrived, times.Begun}, {"prefill", times.Begun, times.First}, {"decode", times.First, times.Ended}} {
		if phase.from.IsZero() {
			continue
		}
		if phase.to.IsZero() {
			phase.to = w.ended // it did not come to the next
		}
		_, part := tracer.Start(ctx, phase.name, trace.WithTimestamp(phase.from))
		part.End(trace.WithTimestamp(phase.to))
	}
	span.End(trace.WithTimestamp(w.ended))
}

// sizes are the numbers of a request and its answer.
func (w *work) sizes(t *engine.Timeline) []attribute.KeyValue {
	r, usage := w.request, w.stream.Usage()
	list := []attribute.KeyValue{
		attribute.Float64("gen_ai.request.temperature", float64(r.Sampling.Temperature)), attribute.Float64("gen_ai.request.top_p", float64(r.Sampling.TopP)),
		attribute.Int("gen_ai.request.top_k", int(r.Sampling.TopK)), attribute.Int64("gen_ai.request.seed", int64(r.Sampling.Seed)),
		attribute.Float64("gen_ai.request.frequency_penalty", float64(r.Sampling.FrequencyPenalty)),
		attribute.Float64("gen_ai.request.presence_penalty", float64(r.Sampling.PresencePenalty)),
		attribute.Int("gen_ai.usage.input_tokens", usage.Prompt), attribute.Int("gen_ai.usage.output_tokens", usage.Completion),
		attribute.Int("gen_ai.usage.cache_read.input_tokens", usage.Cached), attribute.Int("serve.queue.position", t.Position),
	}
	if r.MaxTokens > 0 {
		list = append(list, attribute.Int("gen_ai.request.max_tokens", r.MaxTokens))
	}
	if r.Choices > 1 {
		list = append(list, attribute.Int("gen_ai.request.choice.count", r.Choices))
	}
	var reasons []string
	for _, f := range t.Finishes {
		reasons = append(reasons, string(f))
	}
	if reasons != nil {
		list = append(list, attribute.StringSlice("gen_ai.response.finish_reasons", reasons))
	}
	if !t.First.IsZero() {
		list = append(list, attribute.Float64("gen_ai.response.time_to_first_chunk", t.First.Sub(t.Arrived).Seconds()))
	}
	return list
}
