#!/bin/sh
# PID 1 of the lab. The kernel starts it on the machine's own file tree (hostfs), read-only, with CORONER_LAB naming the
# one directory of the machine that may be written. It puts an overlay over the tree, mounts what a container node has,
# runs the script "command" of that directory, and switches the lab off.
set -e # what fails here ends PID 1: the kernel panics, and the console says why
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run/tmp TMPDIR=/run/tmp LANG=C.UTF-8
modules=/usr/lib/uml/modules/$(uname -r)

# -n throughout: the mount table that mount(8) would keep in /run is of no use to anyone.
mount -n -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
insmod "$modules/kernel/fs/overlayfs/overlay.ko"
mount -n -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root
pivot_root . mnt
umount -n -l /mnt

mount -n -t proc proc /proc
mount -n -t sysfs sysfs /sys
mount -n -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -n -t devpts devpts /dev/pts
mount -n -t tmpfs tmpfs /dev/shm
mount -n -t tmpfs tmpfs /run
mkdir -p /run/lab /run/tmp "/lib/modules/$(uname -r)"
mount -n --bind "$modules" "/lib/modules/$(uname -r)"
mount -n -t hostfs none /run/lab -o "$CORONER_LAB"

# Only this shell moves: a cgroup that holds kernel threads cannot enable cpu.
mount -n -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/init
echo $$ > /sys/fs/cgroup/init/cgroup.procs
echo +cpu +memory +pids +io > /sys/fs/cgroup/cgroup.subtree_control
ip link set lo up
echo lab > /proc/sys/kernel/hostname

export CORONER_LAB=/run/lab
sh /run/lab/command || true
echo o > /proc/sysrq-trigger
sleep 60 # the power goes first
