package machine

import "testing"

func TestFormatSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0.0 KiB", 512 << 10: "512.0 KiB", 3 << 19: "1.5 MiB", 5 << 29: "2.5 GiB"} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
