/* The script that a shell sources to complete command lines; its answers: cmd_complete.c. */
#include <stdio.h>
#include <string.h>

#include "tools/commands/commands.h"

/* Put into the program as it is. */
__asm__(".pushsection .rodata\n"
	".globl varve_completion_bash\n"
	"varve_completion_bash:\n"
	".incbin \"tools/completion/varve.bash\"\n"
	".byte 0\n"
	".popsection\n");
extern const char varve_completion_bash[];

int cmd_completion(struct cli *cli, const struct args *args, struct error *err)
{
	(void)cli;
	if (strcmp(args->words[0], "bash") != 0)
		return cli_usage(err, "there is a script for bash, not for '%s'", args->words[0]);
	return fputs(varve_completion_bash, stdout) == EOF ? cli_write_failure() : 0;
}
