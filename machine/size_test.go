package machine

import "testing"

func TestFormatSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0.0 KiB", 512 << 10: "512.0 KiB", 3 << 19: "1.5 MiB", 5 << 29: "2.5 GiB"} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	for text, want := range map[string]uint64{
		"0": 0, "4096": 4096, "512MiB": 512 * mib, "1.5GiB": 1536 * mib, "2G": 2 * gib, "2 gib": 2 * gib, "7b": 7,
		"1TiB": 1024 * gib,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1PiB", "NaN", "Inf", "1e30", "1 GB", "0x10", "99999999TiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: got %d", text, got)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, text := range []string{"1GiB", "0.5m", "-3", "1e9", "٣MiB"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseSize(text)
		if err == nil && n > 1<<62 {
			t.Errorf("%q: %d bytes", text, n)
		}
	})
}
