/*
** mutating.h: which system calls change a file system, and where their arguments are.
**
** One table is both the filter that stops a traced process (mutating_filter) and the description
** by which the tracer reads such a call. Arguments are numbered from 1; 0 means there is none.
*/
#ifndef PRAXLUA_FAULTS_MUTATING_H
#define PRAXLUA_FAULTS_MUTATING_H

#include <stdint.h>

/* When the last name of a path is followed if it is a symbolic link. */
typedef enum Follow {
    FOLLOW_NEVER,
    FOLLOW_ALWAYS,
    FOLLOW_UNLESS_AT,   /* not with AT_SYMLINK_NOFOLLOW in the flags */
    FOLLOW_IF_AT,       /* only with AT_SYMLINK_FOLLOW */
    FOLLOW_UNLESS_OPEN, /* not with O_NOFOLLOW, nor with O_CREAT | O_EXCL */
} Follow;

/* When a call is let through without being looked at, by its arguments. */
typedef enum Only {
    ONLY_ALWAYS,    /* every call is looked at */
    ONLY_CREATING,  /* an open whose flags create, truncate or make a nameless file */
    ONLY_MAPPING,   /* a shared mapping of a file */
    ONLY_REFLINKS,  /* an ioctl that clones blocks */
    ONLY_FORBIDDEN, /* input and output that no tracer sees */
} Only;

typedef struct Mutating {
    long nr;          /* of the system call on this machine */
    const char *name; /* as in the manual */
    const char *kind; /* write, sync, lock, create, remove, rename, attribute, size */
    Only only;
    Follow follow;
    unsigned char fd;          /* the descriptor that is changed */
    unsigned char from;        /* the descriptor that is copied from */
    unsigned char from_offset; /* pointer to the position there */
    unsigned char dir, path;   /* the first path and the directory it starts from */
    unsigned char dir2, path2; /* the second one */
    unsigned char text;        /* a string that is stored: a link's target, an attribute's name */
    unsigned char data;        /* the bytes written */
    unsigned char vector;      /* or an array of them, whose count is the next argument */
    unsigned char size;        /* their number, or a new size */
    unsigned char offset;      /* where */
    unsigned char offset_at;   /* or a pointer to where */
    unsigned char flags;
    unsigned char mode; /* permission bits */
    unsigned char how;  /* struct open_how, which holds flags and mode */
} Mutating;

/* The table; its length; the position that stands for calls of another architecture. */
extern const Mutating mutating_calls[];
extern const int mutating_count;
enum { MUTATING_FOREIGN = 0xffff };

/* Lets the calling process stop for its tracer (SECCOMP_RET_TRACE, with the position in the table
** as data) before each call of the table. Inherited by its children; cannot be taken back.
** Returns 0, or -1 with errno set. */
int mutating_filter(void);

#endif
