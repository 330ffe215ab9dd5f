#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Answers that share a signal (gather.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vhost_blk.sh"

run_on_nullb "$here/gather"
