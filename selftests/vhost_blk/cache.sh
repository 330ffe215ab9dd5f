#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The host's page cache of a device that is bound (cache.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

run_on_nullb "$here/cache"
