package main

import "fmt"

// measureChange measures the serve binary beside one of an earlier commit. A ratio is the median of the runs' own
// ratios: both were measured in the same minute.
func (o *options) measureChange(model string, clients int) error {
	earlier := *o
	earlier.serve = o.before
	servers := []*process{
		o.startServe(model, clients),
		earlier.startServe(model, clients),
	}
	defer stopAll(servers)
	if err := firstError(servers); err != nil {
		return err
	}

	rates, firsts, err := takeTurns(o.loops(servers, clients), o.runs)
	if err != nil {
		return err
	}

	fmt.Printf("%8d clients: %.1f tokens/s, before %.1f, ratio %.3f; first token %.2f ms, before %.2f, ratio %.3f\n",
		clients, median(rates[0]), median(rates[1]), median(ratios(rates[0], rates[1])),
		1000*median(firsts[0]), 1000*median(firsts[1]), median(ratios(firsts[0], firsts[1])))
	return nil
}

// ratios divides each run's value by the earlier binary's.
func ratios(now, before []float64) (r []float64) {
	for run := range now {
		r = append(r, now[run]/before[run])
	}
	return r
}
