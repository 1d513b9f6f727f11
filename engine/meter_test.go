package engine

import (
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	var r rate
	at := func(second float64) time.Time { return time.UnixMilli(int64(1e12 + second*1000)) }
	for i := range 100 { // ten a second, for ten seconds
		*r.at(at(float64(i) / 10))++
	}
	for _, c := range []struct{ second, want float64 }{{9.95, 10}, {10, 10}, {12, 6}, {14.9, 2}, {15, 0}, {1000, 0}} {
		if got := r.mean(at(c.second)); got != c.want {
			t.Errorf("after %g seconds: %g tokens/s, want %g", c.second, got, c.want)
		}
	}
}
