#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A kernel report is found, and the log of a sound boot has none: without this
# the other tests could not fail by a kernel warning.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/tap.sh"

reports=$here/../../tools/testbed/kernel-reports

found()
{
	! printf '[    1.0] booting\n[    2.0] %s\n' "$1" | "$reports"
}

while IFS= read -r line; do
	ok "found: $line" found "$line"
done <<'END'
WARNING: CPU: 0 PID: 1 at drivers/vhost/vhost.c:100 vhost_dev_init+0x1/0x2 [vhost]
WARNING: drivers/vhost/vhost.c:100 at vhost_dev_init+0x1/0x2 [vhost], CPU#0: qemu/1
BUG: KASAN: slab-use-after-free in vhost_blk_queue_completed+0x1/0x2
BUG: unable to handle page fault for address: ffffc90000000000
kernel BUG at drivers/vhost/vhost.c:2800!
Oops: general protection fault, probably for non-canonical address: 0000 [#1] SMP
WARNING: possible circular locking dependency detected
WARNING: inconsistent lock state
WARNING: suspicious RCU usage
BUG: sleeping function called from invalid context at mm/gup.c:1
INFO: task fio:123 blocked for more than 60 seconds.
rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [vhost-1:1]
refcount_t: underflow; use-after-free.
UBSAN: array-index-out-of-bounds in drivers/vhost/blk-queue.c:1:2
Kernel panic - not syncing: Fatal exception
list_add corruption. prev->next should be next
END

sound="Linux version 6.12.117 (debian-kernel@lists.debian.org)
Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on
vhost_blk: module verification failed: signature and/or required key missing - tainting kernel
rcu: Hierarchical RCU implementation.
ACPI BIOS Error (bug): Could not resolve symbol [_SB.PR00._CPC]
EXT4-fs (vda): mounted filesystem 063281be-51ca-4189-9c69-493bbd567654 r/w
virtio_blk virtio1: [vda] 131072 sectors of 512 bytes (64.0 MiB)"
ok "nothing is found in the log of a sound boot" "$reports" <<< "$sound"

injected="selftests: faults on
io: vmalloc error: size 19200, vm_struct allocation failed, mode:0x400dc0
CPU: 0 UID: 0 PID: 592 Comm: io
Call Trace:
selftests: faults off"
ok "an allocation that failed on purpose is none" "$reports" <<< "$injected"
ok "it is one if nobody said so" found "${injected#*$'\n'}"
ok "others are found meanwhile" found "${injected/CPU: 0/WARNING: CPU: 0 PID: 1 at mm/slub.c:1}"
ok "and afterwards" found "$injected"$'\n'"Call Trace:"
tap_end
