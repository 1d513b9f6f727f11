package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"serve/access"
)

// mannWhitney returns how likely two samples differ as much as they do, or more, if both are of one distribution: the
// two-sided p of Mann and Whitney's U test, in its normal approximation, with ties.
func mannWhitney(a, b []float64) (p float64) {
	type value struct {
		v     float64
		first bool
	}
	var all []value
	for _, v := range a {
		all = append(all, value{v, true})
	}
	for _, v := range b {
		all = append(all, value{v, false})
	}
	slices.SortFunc(all, func(x, y value) int { return cmp.Compare(x.v, y.v) })

	ranks := 0.0 // of the first sample
	ties := 0.0  // by which the deviation is smaller
	for i := 0; i < len(all); {
		j := i + 1
		for j < len(all) && all[j].v == all[i].v {
			j++
		}
		same := float64(j - i)
		ties += same*same*same - same
		for ; i < j; i++ {
			if all[i].first {
				ranks += float64(j) - (same-1)/2
			}
		}
	}
	n1 := float64(len(a))
	n2 := float64(len(b))
	u := ranks - n1*(n1+1)/2
	n := n1 + n2
	deviation := math.Sqrt(n1 * n2 / 12 * (n + 1 - ties/(n*(n-1))))
	z := (math.Abs(u-n1*n2/2) - 0.5) / deviation
	return math.Erfc(max(z, 0) / math.Sqrt2)
}

// TestMannWhitney compares the test with a published example, and tells what differs from what does not.
func TestMannWhitney(t *testing.T) {
	// Without ties: U = 25 of 100, so z = (25 - 0.5) / sqrt(175).
	a := []float64{1, 2, 3, 4, 5, 6, 7, 18, 19, 20}
	b := []float64{8, 9, 10, 11, 12, 13, 14, 15, 16, 17}
	if p := mannWhitney(a, b); math.Abs(p-math.Erfc((20-0.5)/math.Sqrt(175)/math.Sqrt2)) > 1e-9 {
		t.Errorf("p is %v", p)
	}
	random := rand.New(rand.NewPCG(1, 2))
	sample := func(shift float64) (list []float64) {
		for range 500 {
			list = append(list, math.Round(10*(random.NormFloat64()+shift)))
		}
		return list
	}
	if p := mannWhitney(sample(0), sample(0)); p < 0.05 {
		t.Errorf("two samples of one distribution: %v", p)
	}
	if p := mannWhitney(sample(0), sample(0.5)); p > 1e-6 {
		t.Errorf("samples of two: %v", p)
	}
}

// TestTimingOfTenants measures whether the time to the first token tells what another tenant has just sent: it must not
// differ from that of a text that nobody has sent. That of one's own text must, or nothing is measured. It is run by
// hand, on a quiet machine, with the number of trials in TIMING.
func TestTimingOfTenants(t *testing.T) {
	trials, err := strconv.Atoi(os.Getenv("TIMING"))
	if err != nil {
		t.Skip("TIMING is not set to a number of trials")
	}
	environ, home := homeOf(t)
	keys := filepath.Join(home, "keys.json")
	secrets := map[string]string{}
	for _, name := range []string{"alice", "bob"} {
		_, secret, err := access.Create(keys, access.NewKey{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		secrets[name] = secret
	}
	model := cmp.Or(os.Getenv("TIMING_MODEL"), "demo")
	r := startServeIn(t, environ, model, "--offline", "--keys", keys, "--alias", "fast", "--ctx-size", "512",
		"--parallel", "4")

	// ask returns how long the first token of an answer takes, in milliseconds.
	ask := func(who, prompt string) float64 {
		body := fmt.Sprintf(`{"model":"fast","prompt":%q,"max_tokens":1,"temperature":0}`, prompt)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/v1/completions", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+secrets[who])
		begun := time.Now()
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		took := time.Since(begun)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%d %s, %v", res.StatusCode, text, err)
		}
		return float64(took) / float64(time.Millisecond)
	}
	words := strings.Fields(strings.Repeat("one two six ten red sea sun sky dog cat ", 12))
	text := func() string {
		rand.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
		return strings.Join(words, " ")
	}

	var others, nobodys, own []float64
	for range trials {
		sent := text()
		never := text()
		ask("alice", sent)
		if rand.IntN(2) == 0 {
			others = append(others, ask("bob", sent))
			nobodys = append(nobodys, ask("bob", never))
		} else {
			nobodys = append(nobodys, ask("bob", never))
			others = append(others, ask("bob", sent))
		}
		own = append(own, ask("bob", never))
	}

	median := func(list []float64) float64 { return slices.Sorted(slices.Values(list))[len(list)/2] }
	p := mannWhitney(others, nobodys)
	control := mannWhitney(own, nobodys)
	t.Logf("%d trials on %s: median %.2f ms for what another tenant has sent, %.2f ms for what nobody has, p = %.3f; "+
		"%.2f ms for one's own, p = %.2g", trials, model, median(others), median(nobodys), p, median(own), control)
	if p <= 0.05 {
		t.Errorf("the times differ: p = %v", p)
	}
	if control > 0.001 {
		t.Errorf("one's own prefix makes no difference, so nothing was measured: p = %v", control)
	}
}
