package access

import "serve/flagset"

// Declare declares flags for the limits, whose names have a prefix; of says whose they are.
func (l *Limits) Declare(f flagset.Set, prefix, of string) {
	for _, limit := range []struct {
		p           *int
		name, usage string
	}{
		{&l.RequestsPerMinute, "requests-per-minute", "maximum requests per minute"},
		{&l.TokensPerMinute, "tokens-per-minute", "maximum tokens, in and out, per minute"},
		{&l.TokensPerDay, "tokens-per-day", "maximum tokens, in and out, per day (UTC)"},
		{&l.Concurrent, "concurrent", "maximum answers that are computed at the same time"},
		{&l.BytesInFlight, "bytes-in-flight", "maximum bytes of request bodies that are in memory at the same time"},
		{&l.BytesStored, "bytes-stored", "maximum bytes that are stored in --data-dir"},
	} {
		flagset.Number(f, limit.p, prefix+limit.name, 0, flagset.Within(0, MaxLimit), limit.usage+of+"; 0 for no limit")
	}
}
