#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A device that breaks the rules of its rings (hostile.c).
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib/vduse.sh"

run_in_guest 600 hostile
