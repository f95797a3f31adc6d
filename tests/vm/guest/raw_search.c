/* SPDX-License-Identifier: MIT */
/* The example for raw use, as a program of the guest: see tools.sh. */
#include "../../../examples/raw_search.c"
