package terminal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
)

// SetUpLog sends the log to w from a level on: debug, info, warn or error. The engine's info lines are the details of a
// load, hundreds of them: they show at level debug only.
func SetUpLog(w io.Writer, level string) error {
	l, err := parseLevel(level)
	if err != nil {
		return err
	}

	var h slog.Handler = slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})
	if l > slog.LevelDebug {
		h = quietEngine{h}
	}
	slog.SetDefault(slog.New(h))
	return nil
}

// ValidLevel refuses anything but a log level.
func ValidLevel(level string) error {
	_, err := parseLevel(level)
	return err
}

func parseLevel(level string) (l slog.Level, err error) {
	if l.UnmarshalText([]byte(level)) != nil {
		return 0, fmt.Errorf("must be debug, info, warn or error")
	}
	return l, nil
}

// quietEngine drops the engine's lines below warning.
type quietEngine struct{ slog.Handler }

// Handle implements slog.Handler.
func (q quietEngine) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		return q.Handler.Handle(ctx, r)
	}

	fromEngine := false
	r.Attrs(func(a slog.Attr) bool {
		fromEngine = a.Key == "from" && a.Value.String() == "llama.cpp"
		return !fromEngine
	})
	if fromEngine {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}
