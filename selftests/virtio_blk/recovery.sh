#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A device that does not answer, or does not say so (recovery.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vduse.sh"

run_in_guest 600 recovery
