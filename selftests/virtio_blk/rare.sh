#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What QEMU's devices don't have (rare.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vduse.sh"

run_in_guest 300 rare
