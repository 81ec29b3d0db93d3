// SPDX-License-Identifier: Apache-2.0
/* The query worker as a small binary of its own: it starts in a fraction of the time that the daemon's would take. */
#include <stdio.h>
#include <sys/stat.h>

#include "store/query.h"

int main(int argc, char **argv)
{
	struct stat st;

	if (argc != 1 || fstat(3, &st) < 0 || !S_ISSOCK(st.st_mode)) {
		fputs("ringside-query is started by ringsided for each query; use 'ringside sql'\n", stderr);
		return 2;
	}
	query_worker_main(argc, argv);
}
