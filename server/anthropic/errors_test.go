package anthropic

import (
	"testing"

	"serve/fault"
)

// TestEveryFaultHasAStatus holds the table of errors against the kinds that there are.
func TestEveryFaultHasAStatus(t *testing.T) {
	for _, kind := range fault.Kinds() {
		f, ok := failures[kind]
		if !ok || f.status < 400 || f.kind == "" {
			t.Errorf("kind %d becomes %+v", kind, f)
		}
		if f.status < 500 && f.final {
			t.Errorf("kind %d: nobody repeats a %d anyway", kind, f.status)
		}
	}
}

// TestStatusesHaveOneType holds the types of errors against Anthropic's table of statuses.
func TestStatusesHaveOneType(t *testing.T) {
	types := map[int]string{
		400: invalidRequest,
		401: authenticationError,
		403: permissionError,
		404: notFound,
		405: invalidRequest,
		408: timeoutError,
		413: tooLarge,
		415: invalidRequest,
		429: rateLimit,
		499: apiError,
		500: apiError,
		503: overloaded,
		504: timeoutError,
		529: overloaded,
	}
	for kind, f := range failures {
		if types[f.status] != f.kind {
			t.Errorf("kind %d: a %d is a %s, not a %s", kind, f.status, types[f.status], f.kind)
		}
	}
}
