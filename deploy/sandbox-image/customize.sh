#!/bin/sh
# Runs inside the new root file system, on both ways of building it, so that both give the same:
# no file that changes the user on execution, nothing but what a command needs, fixed mount points.
set -eu

rm -rf /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian
rm -rf /var/lib/apt/lists /var/cache/apt /var/cache/debconf /var/log/apt
mkdir -p /var/lib/apt/lists /var/cache/apt /var/cache/debconf
rm -f /var/log/*.log /var/log/*.1 /etc/hostname /etc/resolv.conf
mkdir -p /work /.bulkhead
find / -xdev -perm /6000 -exec chmod ug-s {} +
