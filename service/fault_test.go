package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/quota"
)

// TestFault converts every error that the engine and the pool return.
func TestFault(t *testing.T) {
	known := fault.New(fault.NotFound, "x", "It is not there.")
	for _, tt := range []struct {
		err   error
		kind  fault.Kind
		field string
		retry time.Duration
	}{
		{known, fault.NotFound, "x", 0},
		{&engine.LengthError{Tokens: 9, Limit: 8}, fault.ContextExceeded, "input", 0},
		{engine.ErrCrashed, fault.Crashed, "", 0},
		{engine.ErrCannot, fault.UnsupportedModel, "model", 0},
		{engine.ErrRequest, fault.InvalidValue, "input", 0},
		{&engine.BusyError{Reason: engine.ErrQueueFull}, fault.QueueFull, "", time.Second},
		{&engine.BusyError{Reason: engine.ErrShare, Retry: 3 * time.Second}, fault.RateLimited, "", 3 * time.Second},
		{&engine.BusyError{Reason: engine.ErrWait, Retry: time.Hour}, fault.QueueWait, "", time.Minute},
		{engine.ErrStopped, fault.Stopping, "", 5 * time.Second},
		{pool.ErrLoading, fault.Loading, "", 15 * time.Second},
		{pool.ErrNoMemory, fault.Loading, "", 15 * time.Second},
		{&pool.UnavailableError{Err: errors.New("CUDA0 is gone")}, fault.DeviceLost, "", pool.DeviceRetry},
		{fmt.Errorf("%w: %w", engine.ErrStopped, engine.ErrDevice), fault.DeviceLost, "", pool.DeviceRetry},
		{&pool.NoRoomError{Err: errors.New("9 GiB")}, fault.InsufficientMemory, "model", 0},
		{pool.ErrLoad, fault.LoadFailed, "model", 0},
		{context.DeadlineExceeded, fault.Deadline, "", 0},
		{context.Canceled, fault.Canceled, "", 0},
		{errors.New("other"), fault.Internal, "", 0},
	} {
		e := Fault(fmt.Errorf("wrapped: %w", tt.err), "input")
		if e.Kind != tt.kind || e.Field != tt.field || e.RetryAfter != tt.retry || e.Message == "" {
			t.Errorf("%v becomes %+v", tt.err, e)
		}

		var length *engine.LengthError
		if errors.As(tt.err, &length) != (e.Length != nil) ||
			length != nil && *e.Length != (fault.Length{Tokens: 9, Limit: 8}) {
			t.Errorf("%v: the length is %+v", tt.err, e.Length)
		}

		var busy *engine.BusyError
		if errors.As(tt.err, &busy) != (e.Queue != nil) {
			t.Errorf("%v: the queue is %+v", tt.err, e.Queue)
		}
	}
}

// TestBusyFault says how many requests of the client's tenant wait, and nothing if none do: the rest is others'.
func TestBusyFault(t *testing.T) {
	for waiting, want := range map[int]string{
		0: "The server's queue is full. Try again in 1 second.",
		1: "The server's queue is full. 1 request is waiting. Try again in 1 second.",
		3: "The server's queue is full. 3 requests are waiting. Try again in 1 second.",
	} {
		e := Fault(&engine.BusyError{Reason: engine.ErrQueueFull, Waiting: waiting}, "")
		if e.Message != want {
			t.Errorf("%q, not %q", e.Message, want)
		}
	}

	// What others have of a limit is theirs.
	e := Fault(&quota.ExceededError{What: "requests being read", Used: 63, Limit: 64}, "")
	if strings.Contains(e.Message, "63") || !strings.Contains(e.Message, "64") {
		t.Error(e.Message)
	}
}

// TestNames finds models by all of their names, and refuses to have one name for two.
func TestNames(t *testing.T) {
	a := &pool.Model{ID: "a", Aliases: []string{"first", "a"}}
	b := &pool.Model{ID: "b", Aliases: []string{"second"}}
	s, err := New(Options{Models: []*pool.Model{a, b}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]*pool.Model{"a": a, "first": a, "b": b, "second": b} {
		if m, e := s.Named(t.Context(), name); e != nil || m != want {
			t.Errorf("%s: %v, %v", name, m, e)
		}
	}
	if _, e := s.Named(t.Context(), "c"); e == nil || e.Kind != fault.ModelNotFound || e.Field != "model" {
		t.Errorf("an unknown model: %+v", e)
	}

	if _, err := New(Options{Models: []*pool.Model{a, {ID: "c", Aliases: []string{"first"}}}}); err == nil {
		t.Error("two models have one name")
	}
}
