package server_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"serve/fault"
	"serve/quota"
	"serve/server/dialect"
	"serve/server/wire"
	"serve/service"
)

// counted reads a list of lists, and counts those that it reads.
type counted struct {
	read int
	then func(n int)
}

var countedFields = wire.Table[counted]{{
	Name: "lists",
	Type: wire.Custom(wire.Array, func(c *counted, v wire.Value) *fault.Error {
		lists, e := v.Array(1 << 20)
		if e != nil {
			return e
		}
		for _, list := range lists {
			if _, e := list.Array(1); e != nil {
				return e
			}
			c.read++
			c.then(c.read)
		}
		return nil
	}),
}}

// TestNothingIsReadForNobody has a client hang up, and another send what takes too long, while a body is decoded: the
// next step of any loop is the last.
func TestNothingIsReadForNobody(t *testing.T) {
	body := `{"lists":[` + strings.Repeat("[],", 1000) + `[]]}`
	ctx, hangUp := context.WithCancel(t.Context())
	const enough = 10
	for name, tt := range map[string]struct {
		then func(n int)
		want fault.Kind
	}{
		"hung up": {
			then: func(n int) {
				if n == enough {
					hangUp()
				}
			},
			want: fault.Canceled,
		},
		"too expensive": {
			then: func(n int) {
				// No processor does so much within the limit; how long it takes says nothing on a busy machine.
				for i := 0; n == enough && i < 1<<29; i++ {
				}
			},
			want: fault.TooExpensive,
		},
	} {
		call := &service.Call{Client: "a", Workers: quota.NewWorkers(1, 50*time.Millisecond, nil)}
		base := t.Context()
		if tt.want == fault.Canceled {
			base = ctx
		}
		r := httptest.NewRequestWithContext(service.WithCall(base, call), http.MethodPost, "/", strings.NewReader(body))
		c := &counted{then: tt.then}
		e := dialect.Decode(r, dialect.Body{Notes: new(wire.Notes)}, countedFields, c)
		if e == nil || e.Kind != tt.want || c.read != enough {
			t.Errorf("%s: %v after %d of 1001 lists", name, e, c.read)
		}
	}
}
