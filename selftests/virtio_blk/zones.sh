#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A host-managed disk whose device fails (zones.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vduse.sh"

run_in_guest 600 zones
