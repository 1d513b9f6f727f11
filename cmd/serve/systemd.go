package main

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"serve/server"
)

// notify tells the service manager, if there is one, how the service is.
func (t *terminal) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		t.note("warning: the service manager cannot be told %q: %v", state, err)
	}
}

// watchdog tells the service manager that all is well for as long as it is, if that
// wants to know. A stuck engine's process is killed and started again after stall; only
// when that has not helped either is it for others to start all of this again.
func watchdog(ctx context.Context, t *terminal, s *server.Server, stall time.Duration) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	tick := time.NewTicker(every / 3)
	defer tick.Stop()
	well := true
	for {
		model, stalled := s.Stalled(2*stall + time.Minute)
		switch {
		case !stalled:
			t.notify(daemon.SdNotifyWatchdog)
		case well:
			t.note("error: %s makes no step and was not mended: the service manager is told no more that all is well", model)
		}
		well = !stalled
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
