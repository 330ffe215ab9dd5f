#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Flushes, and other requests that may end only once, in a recovery (flush.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vduse.sh"

run_in_guest 600 flush
