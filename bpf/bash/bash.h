/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the kernel half of the bash plugin hands to the user half. */
#pragma once

#include "bpf/lib/exe.h"
#include "bpf/lib/process.h"

/* The longest line that is kept whole. */
#define BASH_LINE_MAX 4096
#define BASH_CWD_SIZE 1024
#define BASH_TTY_SIZE 64
/* No status: the variable isn't exported, or its page couldn't be read. */
#define BASH_NO_STATUS (-1)

enum bash_event_kind {
	BASH_EVENT_LINE = 1, /* struct bash_line */
	BASH_EVENT_PROMPT,   /* struct bash_prompt: the shell waits for the next line */
	BASH_EVENT_PROGRAM,  /* struct bash_program */
};

#define BASH_NAME_SIZE	  16
#define BASH_PROGRAMS_MAX 32

/* A process runs a file of a name that is looked for. */
struct bash_program {
	__u32 kind;
	__u32 pid;
	struct exe_id exe;
	char name[BASH_NAME_SIZE]; /* of the executable */
};

/* A file that needs no second look. */
struct bash_file {
	__u64 ino;
	__u64 dev;
};

struct bash_prompt {
	__u32 kind;
	__u32 pid;
	__u64 boot_ns;
	__s32 status;       /* $?, or BASH_NO_STATUS */
	__u32 continuation; /* the command isn't complete: this is the prompt PS2 */
};

struct bash_line {
	__u32 kind;
	__u32 metafied; /* as zsh keeps text: 0x83 and the byte xor 32 */
	struct process_context p;
	__u32 len;     /* of text without NUL; above BASH_LINE_MAX: cut off */
	__u32 cwd_len; /* 0: unknown */
	char tty[BASH_TTY_SIZE];
	char cwd[BASH_CWD_SIZE];
	char text[BASH_LINE_MAX + 2];
	char pad[6];
};

/* An executable by the distances between its segments, which mm_struct shows on every kernel. */
struct bash_layout {
	__u64 code_size, data_start, data_end;
};

/* Where this bash keeps its variables, counted from the start of its code; 0: it doesn't export that one. */
struct bash_symbols {
	__s64 last_command_exit_value; /* int */
	__s64 executing;               /* int: a command runs */
	__s64 current_prompt_string;   /* char *: ps1_prompt or ps2_prompt */
	__s64 ps2_prompt;              /* char * */
	__s64 cwd;                     /* char *the_current_working_directory */
};

#define BASH_SHELLS_MAX 256 /* different builds at a time */
#define BASH_FILES_MAX	1024
