package prompt

import (
	"context"

	"serve/engine"
)

var _ Engine = (*engine.Engine)(nil)

// Engine is the part of a model that reads text for callers. pool.Engine implements it.
type Engine interface {
	Model() *engine.ModelInfo
	Limits() engine.Limits
	LongestPiece() int
	Render(ctx context.Context, by engine.Caller, c engine.Chat) (*engine.Rendered, error)
	Tokenize(
		ctx context.Context, by engine.Caller, text string, how engine.Reading, limit int,
	) ([]engine.Token, error)
	Prompt(
		ctx context.Context, by engine.Caller, parts []engine.Part, limit int,
	) ([]engine.Token, []*engine.Media, error)
}

// Reader has a model read text on behalf of one caller, for one request.
type Reader struct {
	Engine

	Context context.Context // whose end is the request's
	By      engine.Caller
}

var _ Renderer = Reader{}

// Render implements Renderer, as do the methods after it.
func (r Reader) Render(c engine.Chat) (*engine.Rendered, error) {
	return r.Engine.Render(r.Context, r.By, c)
}

// Tokenize is the engine's, for the caller.
func (r Reader) Tokenize(text string, how engine.Reading, limit int) ([]engine.Token, error) {
	return r.Engine.Tokenize(r.Context, r.By, text, how, limit)
}

// Prompt is the engine's, for the caller.
func (r Reader) Prompt(ctx context.Context, parts []engine.Part, limit int) ([]engine.Token, []*engine.Media, error) {
	return r.Engine.Prompt(ctx, r.By, parts, limit)
}
