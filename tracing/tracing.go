// Package tracing sends traces to an OpenTelemetry collector.
package tracing

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
)

// How long spans may take to reach the collector, one batch and the last ones.
const (
	exportTimeout = 10 * time.Second
	flushTimeout  = 5 * time.Second
)

// Options say where traces go. All are required.
type Options struct {
	Collector *url.URL          // of ParseCollector
	Transport http.RoundTripper // opens the connections
	Version   string            // of this program
	Warn      func(format string, args ...any)
}

// ParseCollector reads a collector's address.
func ParseCollector(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not a URL such as http://localhost:4318", text)
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/traces"
	}
	return u, nil
}

// Start returns a tracer that sends spans to a collector (OTLP over HTTP), until it is stopped.
// Which requests are traced, and headers with keys, OpenTelemetry's own variables say.
func Start(ctx context.Context, o Options) (tracer trace.Tracer, stop func(), err error) {
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(o.Collector.String()),
		otlptracehttp.WithHTTPClient(&http.Client{Transport: o.Transport, Timeout: exportTimeout}))
	if err != nil {
		return nil, nil, fmt.Errorf("traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithFromEnv(), resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "serve"),
		attribute.String("service.version", o.Version),
	))
	if err != nil {
		return nil, nil, fmt.Errorf("traces: %w", err)
	}

	// A collector that is away for an hour is one line, not one a batch.
	var once sync.Once
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		once.Do(func() { o.Warn("traces cannot be sent, and further failures are not reported: %v", err) })
	}))

	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	stop = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		_ = provider.Shutdown(ctx) // the handler has reported what fails there
	}
	return provider.Tracer("serve"), stop, nil
}
