#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A device whose configuration space makes no sense, or changes (config.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vduse.sh"

run_in_guest 600 config
