#!/bin/sh
# Boots the Debian in the directory $1 with its own systemd, in namespaces of its own, and in
# a control group called $2. It sees no devices but those that every process may have, and
# can change neither the kernel's settings nor devices: it shares both with others.
set -eu

if [ "${3-}" != inside ]; then
    mount --make-rprivate /
    mount -t cgroup2 cgroup2 "$1/sys"
    mkdir "$1/sys/$2"
    echo 0 >"$1/sys/$2/cgroup.procs"
    umount "$1/sys"
    exec unshare --cgroup --mount --pid --net --uts --ipc --fork --kill-child sh "$0" "$1" "$2" inside
fi

mount --bind "$1" "$1"
cd "$1"
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -o remount,ro sys
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty fuse; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ip link set lo up
hostname machine
mkdir -p was
pivot_root . was
cd /
umount -l was
rmdir was
umount /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /sbin/init
