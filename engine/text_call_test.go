package engine_test

import (
	"context"
	"errors"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
)

// patient is a Text whose calls end with their contexts, and not before.
type patient struct{ engine.Text }

func (patient) Tokenize(ctx context.Context, _ string, _ engine.Reading) ([]engine.Token, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func (patient) Render(ctx context.Context, _ engine.Chat) (*engine.Rendered, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// TestTextCallsEndWithTheirClients has clients go while their text is read.
func TestTextCallsEndWithTheirClients(t *testing.T) {
	fake := enginetest.New(enginetest.Options{})
	e := engine.New(fake, patient{fake}, engine.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if _, err := e.Tokenize(ctx, engine.Caller{}, "text", engine.Reading{}, 10); !errors.Is(err, gone) {
		t.Errorf("Tokenize ended with %v", err)
	}
	if _, err := e.Render(ctx, engine.Caller{}, engine.Chat{}); !errors.Is(err, gone) {
		t.Errorf("Render ended with %v", err)
	}
}
