package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"serve/hub"
)

// How long spans may take to reach the collector, one batch and the last ones.
const (
	exportTimeout = 10 * time.Second
	flushTimeout  = 5 * time.Second
)

// tracer sends spans to an OpenTelemetry collector (OTLP over HTTP), until it is closed.
// Which requests are traced, and headers with keys, OpenTelemetry's own variables say.
func (w *workplace) tracer(ctx context.Context, endpoint string) (tracer trace.Tracer, stop func(), err error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, nil, fmt.Errorf("%w: --otlp-endpoint %q: like http://localhost:4318", errUsage, endpoint)
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/traces"
	}
	network, err := w.network()
	if err != nil {
		return nil, nil, err
	}
	if network.Offline {
		return nil, nil, fmt.Errorf("%w: --otlp-endpoint and --offline contradict each other", errUsage)
	}
	transport, err := hub.Transport(network)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()),
		otlptracehttp.WithHTTPClient(&http.Client{Transport: transport, Timeout: exportTimeout}))
	if err != nil {
		return nil, nil, fmt.Errorf("traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithFromEnv(), resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "serve"), attribute.String("service.version", versionText())))
	if err != nil {
		return nil, nil, fmt.Errorf("traces: %w", err)
	}
	// A collector that is away for an hour is one line, not one a batch.
	var once sync.Once
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		once.Do(func() { w.t.note("warning: spans are lost, and no more will be said of it: %v", err) })
	}))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	w.t.fact("traces", "to %s", u.Redacted())
	return provider.Tracer("serve"), func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		_ = provider.Shutdown(ctx) // what fails there was said by the handler
	}, nil
}
