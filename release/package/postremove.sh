#!/bin/sh
# The user and /var/lib/serve, in which models lie, stay.
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
