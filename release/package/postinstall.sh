#!/bin/sh
# Runs after installing and upgrading, for .deb and .rpm. The service is neither enabled nor started: the administrator
# decides what it serves, and to whom.
set -e

if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers serve.conf
fi

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart serve.service # a running service has the old version
fi
