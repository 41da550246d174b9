/*
** unconfined.c: a praxlua whose workers go without the layers of the kernel, to show that all the
** rest holds without them. Linked with --wrap in front of runtime/filter.c and landlock.c.
*/
#include <errno.h>

int __wrap_filter_worker(int channel);
int __wrap_landlock_worker(void);

int __wrap_filter_worker(int channel) {
    (void)channel;
    return ENOPKG;
}

int __wrap_landlock_worker(void) {
    return ENOPKG;
}
