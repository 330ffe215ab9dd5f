#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The dirty log (log.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

run_on_nullb "$here/log"
