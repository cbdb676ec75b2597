#!/bin/bash
# What booted.py runs on the network of a machine to be: systemd as process 1, on the root file system of this
# host as an overlay, so that nothing of the host is changed.
# usage: boot.sh NAME DIRECTORY SOURCES CGROUP...
# DIRECTORY keeps what the machine writes, SOURCES is at /usr/src/plane there, CGROUPs are its own.
set -euo pipefail

# As installed: nothing that this host starts, or that would touch its kernel.
first_boot() {
  local root=$1 name=$2 unit
  echo "$name" >"$root/etc/hostname"
  : >"$root/etc/machine-id"
  rm -rf "$root"/etc/systemd/system/*.wants
  for unit in systemd-{sysctl,modules-load,remount-fs,binfmt,timesyncd,random-seed,logind}.service \
    systemd-journald-audit.socket sys-kernel-{debug,tracing,config}.mount sys-fs-fuse-connections.mount \
    dev-hugepages.mount proc-sys-fs-binfmt_misc.automount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
  done
  # The units forbid ptrace(2), by which a sanitizer looks for leaks.
  mkdir -p "$root/etc/systemd/system.conf.d"
  printf '[Manager]\nDefaultEnvironment=ASAN_OPTIONS=detect_leaks=0\n' \
    >"$root/etc/systemd/system.conf.d/sanitizers.conf"
}

# The same hierarchies as here; the cgroup namespace makes the machine's own cgroup the uppermost.
mount_cgroups() {
  local root=$1 place kind options
  findmnt -rn -o TARGET,FSTYPE,FS-OPTIONS | grep '^/sys/fs/cgroup' |
    while read -r place kind options; do
      case $kind in
        tmpfs) options=mode=755 ;;
        cgroup2) options=rw ;;
        *) options=$(tr , '\n' <<<"$options" | grep -vx 'rw\|xattr\|clone_children\|release_agent=.*' |
          sed 's/^name=/none,&/' | paste -sd,) ;;
      esac
      mkdir -p "$root$place"
      mount -t "$kind" -o "$options" "$kind" "$root$place"
    done
}

mount_devices() {
  local root=$1 device
  mkdir "$root"/dev/{net,shm,pts}
  for device in null zero full random urandom tty net/tun; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
}

if [ "$1" = --inside ]; then # in namespaces of its own
  name=$2 directory=$3 sources=$4
  root=$directory/root
  mount --make-rprivate /
  mount -t overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" overlay "$root"
  [ -e "$directory/booted" ] || first_boot "$root" "$name"
  touch "$directory/booted"
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount_cgroups "$root"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  mount_devices "$root"
  mkdir -p "$root"/{usr/src/plane,var/lib/plane,exchange,before}
  mount -t overlay -o "lowerdir=$sources,upperdir=$directory/sources,workdir=$directory/sources-work" \
    overlay "$root/usr/src/plane"
  mount --bind "$directory/exchange" "$root/exchange"
  mount --bind "$directory/data" "$root/var/lib/plane" # a disk of its own: an overlay holds no other one
  hostname "$name"
  cd "$root"
  pivot_root . before
  umount -l /before
  exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal
fi

directory=$2
for cgroup in "${@:4}"; do
  echo $$ >"$cgroup/cgroup.procs"
done
mkdir -p "$directory"/{root,upper,work,sources,sources-work,exchange,data}
exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child bash "$0" --inside "$@"
