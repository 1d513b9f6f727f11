#!/bin/sh
# After installing and upgrading, as .deb and as .rpm. The service is neither enabled nor started: what it serves, and to
# whom, is for the administrator to say.
set -e

if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers serve.conf
fi

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart serve.service # one that runs is of the old version
fi
