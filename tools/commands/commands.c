/* The commands of varve: their names, words, help and functions. */
#include "tools/commands/commands.h"

#include <string.h>

const struct command cli_commands[] = {
	{ "import", "NAME dir|tar|oci PATH[:TAG]", "make a snapshot from files",
	  "Makes the snapshot NAME from a directory, from a tar archive in any compression\n"
	  "(- is standard input), or from an OCI image: a layout (a directory or a tar of one)\n"
	  "or what `docker save` writes; PATH:TAG says which image of several.\n",
	  3, 3, options_import, false, cmd_import },
	{ "export", "SNAPSHOT tar|oci PATH", "write a snapshot as a tar or an OCI image",
	  "Writes the snapshot to the tar file PATH (- is standard output), or as an OCI image\n"
	  "layout into the directory PATH, which is made and must be empty. The same snapshot\n"
	  "gives the same bytes.\n",
	  3, 3, NULL, true, cmd_export },
	{ "mount", "SNAPSHOT DIR", "mount a snapshot, writable, at a directory",
	  "Mounts the snapshot at DIR, which must exist and be empty (or --force), and prints\n"
	  "the mount's id and place.\n"
	  "What is written is kept apart from the snapshot, until `umount --discard`.\n",
	  2, 2, options_mount, false, cmd_mount },
	{ "umount", "MOUNT...", "unmount; what was written is kept",
	  "MOUNT is a mount's directory, its id, or the start of its id. What was written is\n"
	  "kept for `varve attach`, unless --discard.\n",
	  1, -1, options_umount, false, cmd_umount },
	{ "attach", "MOUNT [DIR]", "mount again what umount has kept",
	  "Mounts it at DIR, which must exist and be empty, or where it was.\n", 1, 2,
	  options_attach, false, cmd_attach },
	{ "discard", "MOUNT...", "delete what umount has kept", NULL, 1, -1, options_discard, false,
	  cmd_discard },
	{ "mounts", "", "list mounts", NULL, 0, 0, options_mounts, false, cmd_mounts },
	{ "checkpoint", "MOUNT-or-SANDBOX NAME", "make a snapshot of a mount as it is now",
	  "Makes the snapshot NAME of what the mount holds now, and waits until it is stored.\n"
	  "The mount works on meanwhile. MOUNT as in umount; a sandbox's id (sb-...) makes a\n"
	  "checkpoint of that, which `varve restore` puts back.\n",
	  2, 2, options_checkpoint, false, cmd_checkpoint },
	{ "fork", "MOUNT-or-SNAPSHOT DIR", "mount a copy of a mount or snapshot",
	  "Makes a new mount at DIR that starts with what the mount (or snapshot) holds now\n"
	  "and goes its own way from there. A word that is the name of a snapshot means that;\n"
	  "write ./WORD for a directory of the same name.\n",
	  2, 2, options_mount, false, cmd_fork },
	{ "diff", "MOUNT-or-SNAPSHOT [MOUNT-or-SNAPSHOT]", "list what changed",
	  "With one mount: what was changed in it since its snapshot. With two: what is\n"
	  "different in the second. Letters: A added, D removed, M modified, m only owner, mode,\n"
	  "times or attributes, R renamed (old -> new).\n"
	  "Comparing a mount with a snapshot that it is not based on, or with another mount,\n"
	  "makes an unnamed checkpoint of it first, and says so.\n",
	  1, 2, NULL, true, cmd_diff },
	{ "history", "SNAPSHOT", "list a snapshot and its ancestors", NULL, 1, 1, options_history,
	  true, cmd_history },
	{ "snapshots", "", "list snapshots, newest first", NULL, 0, 0, options_snapshots, true,
	  cmd_snapshots },
	{ "show", "SNAPSHOT...", "tell all about snapshots", NULL, 1, -1, NULL, true, cmd_show },
	{ "rename", "SNAPSHOT NAME", "give a snapshot another name", NULL, 2, 2, NULL, false,
	  cmd_rename },
	{ "rm", "SNAPSHOT...", "delete snapshots",
	  "Their space is freed by the next `varve gc`. Mounts of them go on working.\n"
	  "REMOTE:NAME takes the name away in that remote, and deletes the snapshot there when no\n"
	  "other name is left; REMOTE:ID deletes it with all its names. Snapshots here stay.\n",
	  1, -1, NULL, false, cmd_rm },
	{ "pin", "SNAPSHOT...", "protect snapshots from removal, or let them expire",
	  "A pinned snapshot cannot be removed. With --ttl it is not pinned: gc removes it once\n"
	  "it has not been used for that long.\n",
	  1, -1, options_pin, false, cmd_pin },
	{ "remote", "add|ls|check|rekey|rm [REMOTE]... [URL]",
	  "name the buckets that snapshots are shared in",
	  "  remote add NAME URL   make a bucket known: s3://BUCKET[/PREFIX] or file:///DIR\n"
	  "  remote ls             list them\n"
	  "  remote check NAME     try whether it can be used, and how fast it answers\n"
	  "  remote rekey NAME     let another key open it (--key-file or --key-command)\n"
	  "  remote rm NAME...     forget it; nothing in the bucket changes\n"
	  "REMOTE:NAME then stands for a snapshot in it: for push and pull, and wherever a\n"
	  "snapshot is named. See varve-remotes(7).\n",
	  1, -1, options_remote, false, cmd_remote },
	{ "push", "SNAPSHOT REMOTE[:NAME]", "put a snapshot into a remote",
	  "Sends what the remote lacks. There it has the same name as here, or NAME; a name that\n"
	  "stands for another snapshot moves, unless --no-replace.\n",
	  2, 2, options_push, false, cmd_push },
	{ "pull", "REMOTE:NAME [NAME]", "take a snapshot from a remote",
	  "Fetches what this store lacks. The snapshot is named as there, or NAME. If a snapshot\n"
	  "that the remote has, too, has the name, it moves and that one stays without a name.\n"
	  "REMOTE:ID takes one by its id, without a name unless one is given.\n",
	  1, 2, options_pull, false, cmd_pull },
	{ "gc", "", "free the space of what nothing refers to",
	  "With --remote, of what no snapshot of that bucket refers to; pushes, pulls and other\n"
	  "collections may go on meanwhile. See varve-remotes(7).\n",
	  0, 0, options_gc, false, cmd_gc },
	{ "verify", "[SNAPSHOT]", "check all data, or that of one snapshot",
	  "Rehashes every chunk and tree node and checks the structure of every tree. Ends with\n"
	  "status 1 where something is damaged. With --remote, looks whether all that the\n"
	  "snapshots of that bucket need is there.\n",
	  0, 1, options_verify, true, cmd_verify },
	{ "backup", "DIR", "copy the daemon's whole state while it is in use",
	  "To an empty directory of its host, or a new one: snapshots, mounts with what was\n"
	  "written to them, sandboxes, images, as they are at one moment. What it has is a state\n"
	  "directory. `varve backup --restore DIR STATE` copies it to where a daemon is to "
	  "start.\n",
	  1, 2, options_backup, false, cmd_backup },
	{ "stats", "", "print figures of the daemon and its store", NULL, 0, 0, NULL, true,
	  cmd_stats },
	{ "ls", "SNAPSHOT[:PATH]", "list a directory of a snapshot", NULL, 1, 1, options_ls, true,
	  NULL },
	{ "cat", "SNAPSHOT:PATH...", "print files of a snapshot", NULL, 1, -1, NULL, true, NULL },
	{ "stat", "SNAPSHOT:PATH", "tell all about one file", NULL, 1, 1, NULL, true, NULL },
	{ "chunks", "SNAPSHOT:PATH", "list the extents of a file and their chunks", NULL, 1, 1,
	  NULL, true, NULL },
	{ "tree", "SNAPSHOT", "tell the shape of a snapshot's tree", NULL, 1, 1, NULL, true, NULL },
	{ "du", "SNAPSHOT[:PATH]", "tell the space of a directory",
	  "LOGICAL sums up file sizes, ALLOCATED leaves out holes, STORED is what their distinct\n"
	  "chunks take in the store, compressed.\n",
	  1, 1, options_du, true, NULL },
	{ "build", "FILE", "build an image from its manifest",
	  "FILE is a manifest as JSON (- is standard input). The build's log goes to standard\n"
	  "error; at the end the snapshot is told. What is cached is not built again, and a "
	  "change\n"
	  "of the last step runs that step alone.\n",
	  1, 1, options_build, false, cmd_build },
	{ "builds", "", "list builds, newest first", NULL, 0, 0, options_builds, false,
	  cmd_builds },
	{ "logs", "BUILD", "print the log of a build",
	  "BUILD is a build's id or the start of it.\n", 1, 1, options_logs, false, cmd_logs },
	{ "cancel", "BUILD...", "end builds", NULL, 1, -1, NULL, false, cmd_cancel },
	{ "images", "", "list cached images, last used first", NULL, 0, 0, options_images, false,
	  cmd_images },
	{ "cachekey", "FILE", "print the key that an image is cached by",
	  "FILE is a manifest as JSON (- is standard input). Nothing but its base and steps is\n"
	  "looked at, and no daemon is asked. The key is the contentHash of the image's\n"
	  "snapshot.\n",
	  1, 1, NULL, false, cmd_cachekey },
	{ "template", "list|show|build [TEMPLATE]", "make base images from recipes",
	  "list tells which recipes there are, show prints one, and build makes the snapshot of\n"
	  "its name: mmdebstrap makes a base system, and the recipe's steps are built upon it.\n"
	  "TEMPLATE is a recipe's name, or the path of a file NAME.json. See varve-template(7).\n",
	  1, 2, options_template, false, cmd_template },
	{ "run", "COMMAND...", "run a command in a new sandbox",
	  "Makes a sandbox of an image, a snapshot or the default template, runs the command in "
	  "it\n"
	  "with its output and exit status as its own, and removes the sandbox. Standard input "
	  "goes\n"
	  "to the command unless it is a terminal: \"cat | varve run ...\" passes on what is "
	  "typed.\n"
	  "Put -- before a command that has options. Status 125: varve itself has failed; 126 and "
	  "127: the "
	  "command\n"
	  "cannot be run, or is not there.\n",
	  1, -1, options_run, false, cmd_run },
	{ "exec", "SANDBOX COMMAND...", "run a command in a sandbox",
	  "SANDBOX is its id or the start of it. Input and exit status as in run.\n", 2, -1,
	  options_exec, false, cmd_exec },
	{ "sandboxes", "", "list sandboxes, newest first", NULL, 0, 0, options_sandboxes, false,
	  cmd_sandboxes },
	{ "kill", "SANDBOX...", "end sandboxes, with all that is in them", NULL, 1, -1, NULL, false,
	  cmd_kill },
	{ "files", "ls|get|put|rm|mkdir SANDBOX PATH...",
	  "list, copy and remove files of a sandbox",
	  "  files ls SANDBOX [PATH]         list a directory\n"
	  "  files get SANDBOX PATH [FILE]   copy out of it (without FILE: to standard output)\n"
	  "  files put SANDBOX FILE PATH     copy into it (- is standard input)\n"
	  "  files rm SANDBOX PATH...        remove files, and directories with what is in them\n"
	  "  files mkdir SANDBOX PATH...     make directories, and those above them\n"
	  "Paths in the sandbox are absolute; symbolic links mean what they mean there.\n",
	  2, -1, NULL, false, cmd_files },
	{ "checkpoints", "SANDBOX", "list the checkpoints of a sandbox", NULL, 1, 1,
	  options_checkpoints, false, cmd_checkpoints },
	{ "restore", "SANDBOX CHECKPOINT", "put a sandbox back to one of its checkpoints",
	  "Its processes end, and what was written since is lost. CHECKPOINT is a name or an id.\n",
	  2, 2, NULL, false, cmd_restore },
	{ "dashboard", "", "print the dashboard's address, with a token for your browser",
	  "The daemon lets no browser in that comes through its socket without a token. On\n"
	  "another machine than the daemon's, forward the socket first, as it says.\n",
	  0, 0, options_dashboard, false, cmd_dashboard },
	{ "daemon", "upgrade", "let another build of the daemon go on",
	  "Starts what is now at the path of snapshotd's program in the place of the daemon that\n"
	  "runs, which leaves without unmounting or stopping anything; programs wait a moment. A\n"
	  "program that does not come up gives way to the one before it, and the command fails.\n"
	  "Needs snapshotd --supervise.\n",
	  1, 1, NULL, false, cmd_daemon },
	{ "completion", "bash|zsh|fish", "print the completion script for a shell",
	  "To use it: varve completion bash > /etc/bash_completion.d/varve\n"
	  "           varve completion zsh > ~/.zfunc/_varve (a directory of fpath)\n"
	  "           varve completion fish > ~/.config/fish/completions/varve.fish\n",
	  1, 1, NULL, false, cmd_completion },
	{ 0 },
};

const struct command_group cli_groups[] = {
	{ "import", "From files to snapshots and back" },
	{ "mount", "Mounts" },
	{ "diff", "Snapshots" },
	{ "remote", "Remotes, which hosts share" },
	{ "gc", "The store" },
	{ "ls", "Looking into snapshots" },
	{ "build", "Images" },
	{ "run", "Sandboxes" },
	{ "dashboard", "The daemon, and this program" },
	{ 0 },
};

const struct command *cli_find_command(const char *name)
{
	for (const struct command *c = cli_commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}
