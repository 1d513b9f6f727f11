package flagset

import (
	"testing"

	"github.com/spf13/pflag"
)

// TestSize checks that a size is printed as it is typed, in the default and in the bounds.
func TestSize(t *testing.T) {
	flags := Of(pflag.NewFlagSet("", pflag.ContinueOnError))
	var n int64
	Size(flags, &n, "max", 32<<20, Within[int64](1, 1<<40), "maximum")
	f := flags.Lookup("max")
	if f.DefValue != "32MiB" || n != 32<<20 {
		t.Errorf("the default is %s, %d", f.DefValue, n)
	}

	for text, want := range map[string]string{"1.5GiB": "1536MiB", "1000": "1000", "2097152": "2MiB", "1t": "1TiB"} {
		if err := f.Value.Set(text); err != nil || f.Value.String() != want {
			t.Errorf("%s: %s, %v, want %s", text, f.Value, err, want)
		}
	}
	for text, want := range map[string]string{
		"0":    "must be from 1 to 1TiB",
		"2TiB": "must be from 1 to 1TiB",
		"lots": "must be a size such as 512MiB or 2GiB",
	} {
		if err := f.Value.Set(text); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
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

// FuzzParseSize checks that what is printed is read as the same number.
func FuzzParseSize(f *testing.F) {
	for _, text := range []string{"1GiB", "0.5m", "-3", "1e9", "٣MiB"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseSize(text)
		if err == nil && n > 1<<62 {
			t.Errorf("%q: %d bytes", text, n)
		}
		if again, e := ParseSize(FormatSize(n)); err == nil && (e != nil || again != n) {
			t.Errorf("%q: %d bytes, and then %d, %v", text, n, again, e)
		}
	})
}
