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
	"serve/service"
)

// Traces contain the timing and the size of requests, never their contents. The names are from
// OpenTelemetry's semantic conventions for HTTP and GenAI.

// span begins the span of a request that uses a model. Other requests have none.
func (x *exchange) span(tracer trace.Tracer, r *http.Request, route string) *http.Request {
	if tracer == nil || x.endpoint.Operation == "" || r.Method != http.MethodPost {
		return r
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, x.server = tracer.Start(ctx, r.Method+" "+route,
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithTimestamp(x.start),
		trace.WithAttributes(
			attribute.String("http.request.method", r.Method),
			attribute.String("http.route", route),
			attribute.String("serve.request.id", x.id),
		))
	x.tracer = tracer
	return r.WithContext(ctx)
}

// endSpan ends the request's span.
func (x *exchange) endSpan(status int) {
	if x.server == nil {
		return
	}
	x.server.SetAttributes(attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		x.server.SetStatus(codes.Error, "")
		x.server.SetAttributes(attribute.String("error.type", strconv.Itoa(status)))
	}
	x.server.End()
}

// report creates the spans of the models' work, which has ended, and counts what it has taken.
func (x *exchange) report(ctx context.Context) {
	if x.ledger != nil && x.call.Detached() {
		_ = x.ledger.Ends(nil, nil) // its answer has been sent
	}
	tokens := 0
	for _, w := range x.call.TakeWork() {
		tokens += w.Counted()
		if x.server != nil {
			x.trace(ctx, &w)
		}
	}
	x.call.Use.End(tokens)
}

// trace creates the span of one model's work.
func (x *exchange) trace(ctx context.Context, w *service.Work) {
	attributes := []attribute.KeyValue{
		attribute.String("gen_ai.operation.name", x.endpoint.Operation),
		attribute.String("gen_ai.provider.name", "serve"),
		attribute.String("gen_ai.request.model", w.Model),
		attribute.String("gen_ai.response.model", w.Model),
	}

	var times engine.Timeline
	if w.Stream != nil {
		times = w.Stream.Timeline()
		w.Begun = times.Arrived
		w.Ended = times.Ended
		w.Err = times.Err
		attributes = append(attributes, sizes(w, &times)...)
	} else {
		attributes = append(attributes, attribute.Int("gen_ai.usage.input_tokens", w.Tokens))
	}

	if w.Ended.IsZero() {
		w.Ended = time.Now() // the client is gone, and the engine ends it at its next step
	}

	if w.Err != nil {
		code := x.endpoint.dialect.Code(service.Fault(w.Err, ""))
		attributes = append(attributes, attribute.String("error.type", code))
	}

	ctx, span := x.tracer.Start(ctx, x.endpoint.Operation+" "+w.Model,
		trace.WithTimestamp(w.Begun), trace.WithAttributes(attributes...))
	if w.Err != nil {
		span.SetStatus(codes.Error, "")
	}

	x.tracePhases(ctx, &times, w.Ended)
	span.End(trace.WithTimestamp(w.Ended))
}

// tracePhases creates the spans of a stream's phases.
func (x *exchange) tracePhases(ctx context.Context, times *engine.Timeline, ended time.Time) {
	for _, phase := range []struct {
		name string
		from time.Time
		to   time.Time
	}{
		{"queue", times.Arrived, times.Begun},
		{"prefill", times.Begun, times.First},
		{"decode", times.First, times.Ended},
	} {
		if phase.from.IsZero() {
			continue
		}
		if phase.to.IsZero() {
			phase.to = ended // it ended in this phase
		}
		_, part := x.tracer.Start(ctx, phase.name, trace.WithTimestamp(phase.from))
		part.End(trace.WithTimestamp(phase.to))
	}
}

// sizes returns the attributes with a request's parameters and token counts.
func sizes(w *service.Work, t *engine.Timeline) []attribute.KeyValue {
	r := w.Request
	usage := w.Stream.Usage()
	list := []attribute.KeyValue{
		attribute.Float64("gen_ai.request.temperature", float64(r.Sampling.Temperature)),
		attribute.Float64("gen_ai.request.top_p", float64(r.Sampling.TopP)),
		attribute.Int("gen_ai.request.top_k", int(r.Sampling.TopK)),
		attribute.Int64("gen_ai.request.seed", int64(r.Sampling.Seed)),
		attribute.Float64("gen_ai.request.frequency_penalty", float64(r.Sampling.FrequencyPenalty)),
		attribute.Float64("gen_ai.request.presence_penalty", float64(r.Sampling.PresencePenalty)),
		attribute.Int("gen_ai.usage.input_tokens", usage.Prompt),
		attribute.Int("gen_ai.usage.output_tokens", usage.Completion),
		attribute.Int("gen_ai.usage.cache_read.input_tokens", usage.Cached),
		attribute.Int("serve.queue.position", t.Position),
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
