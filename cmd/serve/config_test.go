package main

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"serve/flagset"
	"serve/terminal"
)

// parsed is the configuration that flags make.
func parsed(t *testing.T, args ...string) (*config, error) {
	t.Helper()
	c := new(config)
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.declare(flagset.Of(f))
	return c, f.Parse(args)
}

// TestBounds refuses values that make no sense where they are declared, and says what would.
func TestBounds(t *testing.T) {
	for _, tt := range []struct{ flag, value, words string }{
		{"parallel", "0", "must be from 1 to 256"},
		{"parallel", "many", "must be a whole number"},
		{"ctx-size", "-1", "must be from 0 to"},
		{"port", "65536", "must be from 0 to 65535"},
		{"stall-timeout", "0s", "must be at least 1ns"},
		{"stream-gap", "2m", "must be from 0s to 1m0s"},
		{"max-wait", "-1s", "must be at least 0s"},
		{"max-wait", "5", "must be a duration such as 30s"},
		{"kv-type", "q9", "must be f16, q8_0 or q4_0"},
		{"gpu-layers", "many", "must be a number, all or auto"},
		{"cache-type-k", "q9", "must be f16, q8_0 or q4_0"},
		{"split-mode", "half", "must be none, layer, row or tensor"},
		{"tensor-split", "a,b", "must be numbers such as 3,1"},
		{"override-tensor", "exps", "must be PATTERN=DEVICE"},
		{"override-kv", "a=b", "must be KEY=TYPE:VALUE"},
		{"device-memory", "much", "must be a size such as 512MiB"},
		{"rope-scaling", "cubic", "must be none, linear or yarn"},
		{"rope-freq-scale", "0", "must be a number above 0"},
		{"yarn-ext-factor", "-1", "must be a number of at least 0"},
		{"numa", "yes", "must be distribute, isolate or numactl"},
		{"memory-reserve", "much", "must be a size such as 512MiB"},
	} {
		_, err := parsed(t, "--"+tt.flag, tt.value)
		if err == nil || !strings.Contains(err.Error(), tt.words) || !strings.Contains(err.Error(), "--"+tt.flag) {
			t.Errorf("--%s %s: got %v, want %q", tt.flag, tt.value, err, tt.words)
		}
	}

	for _, args := range [][]string{
		{"--parallel", "256"}, {"--port", "0"}, {"--gpu-layers", "auto"}, {"--gpu-layers", "-1"}, {"--stream-gap", "0"},
		{"--gpu-layers", "all"}, {"--n-cpu-moe", "auto"}, {"--device", "CUDA0,CUDA1"},
		{"--device-memory", "CUDA0=8GiB,host=1TiB"},
	} {
		if _, err := parsed(t, args...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestConfigReachesServer follows flags to the options of those who obey them. (--stall-timeout
// once never reached /readyz.)
func TestConfigReachesServer(t *testing.T) {
	c, err := parsed(t, "--stall-timeout", "7s", "--max-waiting", "9", "--max-body", "11")
	if err != nil {
		t.Fatal(err)
	}
	w := &cli{t: &terminal.Terminal{}}
	r := &startup{w: w, c: c}
	if err := r.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o := r.options; o.Stall != 7*time.Second || o.MaxWaiting != 9 || o.MaxBody != 11 {
		t.Errorf("the server gets %+v", o)
	}
	if o := w.loaderOptions(c, nil); o.Stall != 7*time.Second || o.Engine.MaxWaiting != 9 {
		t.Errorf("the loader gets %+v", o)
	}
}
