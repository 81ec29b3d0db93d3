// SPDX-License-Identifier: Apache-2.0
/* The one undocumented text of the core that we rely on, apart so that a unit test keeps it honest. */
#pragma once

/* "fd:17" -> 17; -1 for anything else, leading zeros, signs, blanks and numbers from RPC_MAX_FD included. */
int rpc_peer_fd(const char *peer);
