package remote

import "testing"

// TestReleaser checks when memory is given back: after large calls, when the last of them ends, and while others run
// only after many.
func TestReleaser(t *testing.T) {
	released := 0
	r := releaser{release: func() { released++ }}
	expect := func(want int, when string) {
		t.Helper()
		if released != want {
			t.Errorf("%s: released %d times, want %d", when, released, want)
		}
	}

	r.begin(100)
	r.end(100)
	expect(0, "after a small call")

	r.begin(releaseIdle)
	r.begin(100)
	r.end(100)
	expect(0, "while a large call runs")
	r.end(0)
	expect(1, "after a large call")

	r.begin(100)
	r.end(releaseIdle)
	expect(2, "after a large answer")

	r.begin(0)
	for range releaseBusy / releaseIdle {
		r.begin(releaseIdle)
		r.end(0)
	}
	expect(3, "beside a call that never ends")
}
