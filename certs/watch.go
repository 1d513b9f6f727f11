package certs

import (
	"context"
	"os"
	"time"
)

const (
	pollInterval  = 2 * time.Second
	retryInterval = time.Minute         // for files that could not be used: a certificate may begin later
	warnBefore    = 14 * 24 * time.Hour // the end of a certificate that others renew
	warnInterval  = 24 * time.Hour
	renewInterval = time.Hour // for a self-signed certificate that could not be renewed
)

// watch is what Watch has seen of the files.
type watch struct {
	loaded  [3]stamp
	seen    [3]stamp // the last time
	refused [3]stamp
	tried   time.Time // to load those that are refused
	message string    // why they are
	warned  time.Time
}

// stamp is what changes when a file does. It is zero if there is no such file.
type stamp struct {
	modified int64 // in nanoseconds
	size     int64
}

// stamps looks at the files.
func (s *Certificate) stamps() (list [3]stamp) {
	for i, path := range []string{s.options.CertFile, s.options.KeyFile, s.options.ClientCA} {
		if info, err := os.Stat(path); path != "" && err == nil {
			list[i] = stamp{info.ModTime().UnixNano(), info.Size()}
		}
	}
	return list
}

// Watch loads the files when they change, and renews a self-signed certificate, until ctx is done. It calls changed
// whenever there is another certificate. Files that cannot be used are reported to the log, and the certificate
// stays as it was.
func (s *Certificate) Watch(ctx context.Context, changed func()) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if s.poll() {
				changed()
			}
		case <-ctx.Done():
			return
		}
	}
}

// poll looks at the files once, and reports whether it has loaded them.
func (s *Certificate) poll() bool {
	now := s.options.Now()
	s.renew(now)
	seen := s.stamps()
	settled := seen == s.watch.seen // a pair is written one file after the other
	s.watch.seen = seen
	refused := seen == s.watch.refused && now.Sub(s.watch.tried) < retryInterval
	if seen == s.watch.loaded || !settled || refused {
		return false
	}

	loaded, err := s.load()
	if err != nil {
		if err.Error() != s.watch.message {
			s.options.Log.Error("the certificate could not be loaded again; the server keeps the old one",
				"error", err, "ends", s.Ends())
		}
		s.watch.refused = seen
		s.watch.tried = now
		s.watch.message = err.Error()
		return false
	}

	s.current.Store(loaded)
	s.watch = watch{loaded: seen, seen: seen}
	s.options.Log.Info("the certificate was loaded again", "sha256", s.Fingerprint(), "ends", s.Ends())
	return true
}

// renew makes another self-signed certificate before the old one ends, and warns of the end of others.
func (s *Certificate) renew(now time.Time) {
	left := s.Ends().Sub(now)
	if s.options.SelfSigned && left < renewBefore && now.Sub(s.watch.warned) >= renewInterval {
		if err := ensureSelfSigned(&s.options); err != nil {
			s.options.Log.Error("the self-signed certificate could not be renewed", "error", err, "ends", s.Ends())
			s.watch.warned = now
		}
		return
	}
	if left < warnBefore && now.Sub(s.watch.warned) >= warnInterval {
		s.options.Log.Warn("the certificate ends soon", "ends", s.Ends())
		s.watch.warned = now
	}
}
