/* The scripts that shells source to complete command lines; their answers: cmd_complete.c. */
#include <stdio.h>
#include <string.h>

#include "tools/commands/commands.h"

/* Put into the program as they are. */
#define SCRIPT(shell)                                             \
	__asm__(".pushsection .rodata\n"                          \
		".globl varve_completion_" #shell "\n"            \
		"varve_completion_" #shell ":\n"                  \
		".incbin \"tools/completion/varve." #shell "\"\n" \
		".byte 0\n"                                       \
		".popsection\n");                                 \
	extern const char varve_completion_##shell[]
SCRIPT(bash);
SCRIPT(zsh);
SCRIPT(fish);

int cmd_completion(struct cli *cli, const struct args *args, struct error *err)
{
	const struct {
		const char *shell, *script;
	} scripts[] = { { "bash", varve_completion_bash },
			{ "zsh", varve_completion_zsh },
			{ "fish", varve_completion_fish } };

	(void)cli;
	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++)
		if (strcmp(args->words[0], scripts[i].shell) == 0)
			return fputs(scripts[i].script, stdout) == EOF ? cli_write_failure() : 0;
	return cli_usage(err, "there are scripts for bash, zsh and fish, not for '%s'",
			 args->words[0]);
}
