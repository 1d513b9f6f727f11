#!/bin/sh
# Runs before removing, but not before upgrading: dpkg passes "remove", rpm the number of versions that remain.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now serve.service
	fi
	;;
esac
