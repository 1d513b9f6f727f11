#!/bin/sh
# Before removing, but not before upgrading: dpkg says "remove", rpm how many versions stay.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now serve.service
	fi
	;;
esac
