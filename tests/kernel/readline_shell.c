// SPDX-License-Identifier: Apache-2.0
/* A shell that takes readline from the library and exports what bash exports: "status N" sets $?, "more" asks for a PS2 line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *readline(const char *prompt); /* libreadline */

int last_command_exit_value, executing;
char *ps1_prompt, *ps2_prompt, *current_prompt_string, *the_current_working_directory;

static char *ask(char *prompt)
{
	current_prompt_string = prompt;
	return readline(prompt);
}

int main(void)
{
	char *line;

	ps1_prompt = strdup("@1@");
	ps2_prompt = strdup("@2@");
	the_current_working_directory = getcwd(NULL, 0);
	while ((line = ask(ps1_prompt))) {
		executing = 1;
		if (sscanf(line, "status %d", &last_command_exit_value) != 1)
			last_command_exit_value = 0;
		if (!strcmp(line, "read"))
			free(readline("@r@"));
		executing = 0;
		if (!strcmp(line, "more"))
			free(ask(ps2_prompt));
		free(line);
	}
	return 0;
}
