#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Trace events and counters (trace.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

# What takes a while, so that several requests end together.
run_on_nullb "$here/trace" discard=1 cache_size=1
