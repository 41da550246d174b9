/*
** child.h: the host's mode `--child`, through which spawn.c starts every child that must not
** outlive praxlua.
**
**   praxlua --child PARENT_PID [--status FD] -- PROGRAM [ARG]...
**
** In the new process, before PROGRAM replaces it: the kernel is asked to kill it when its parent
** dies (PR_SET_PDEATHSIG), the parent is checked to be PARENT_PID still, a session and with it a
** process group of its own are made, and the signal mask and dispositions go back to the
** default. PROGRAM is a path; PATH is not searched and no shell is involved. It becomes argv[0].
*/
#ifndef PRAXLUA_CHILD_H
#define PRAXLUA_CHILD_H

/* `argc` and `argv` as main received them (argv[1] is "--child"). Returns only when PROGRAM could
** not be executed, with the exit status: 127 (not found and the like), 126 (found, but it may not
** or cannot be executed), 2 (wrong use). Without --status the reason is written on stderr.
** With it, descriptor FD (a pipe) gets the errno value as an int, and nothing appears on stderr;
** the reader sees the end of the pipe and no data when PROGRAM was executed. */
int child_main(int argc, char **argv);

#endif
