package host

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify notifies the service manager, if there is one, of the service's state.
func (o *Options) notify(state string) {
	if err := o.Manager.Notify(state); err != nil {
		o.Terminal.Warn("the service manager could not be notified of %q: %v", state, err)
	}
}

// watchdog pings systemd's watchdog, if it is in use, as long as the server is healthy. A stuck
// engine's process is restarted after Stall; only if that does not help should systemd restart the
// whole service.
func (o *Options) watchdog(ctx context.Context) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}

	tick := time.NewTicker(every / 3)
	defer tick.Stop()
	healthy := true
	for {
		model, stalled := o.Server.Stalled(2*o.Stall + time.Minute)
		switch {
		case !stalled:
			o.notify(daemon.SdNotifyWatchdog)
		case healthy:
			o.Terminal.Error("model %s is stalled and could not be restarted; no longer pinging systemd's watchdog", model)
		}
		healthy = !stalled

		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
