#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Rings that start and stop one by one (rings.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

run_on_nullb "$here/rings"
