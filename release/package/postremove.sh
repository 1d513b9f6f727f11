#!/bin/sh
# The user and /var/lib/serve, which has the models, are kept.
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
