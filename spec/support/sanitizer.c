/*
** sanitizer.c: how the sanitizers report, built into the programs of the sanitizer stage.
**
** Most of praxlua's processes run with an environment of its making, so options cannot come from
** there. Every report of every process goes to a file REPORT.PID, which the test runner looks for:
** a finding is not missed because a test expected the process to fail.
*/
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__lsan_default_suppressions(void);

/* libarchive 3.6 frees what a writer holds when the writer is closed, but not when it is given up
** after an error. Its frames are all that a stack walk without unwind tables shows. */
const char *__lsan_default_suppressions(void) {
    return "leak:libarchive.so\n";
}

const char *__asan_default_options(void) {
    return "log_path=" REPORT ":exitcode=99:detect_leaks=1:detect_stack_use_after_return=1"
           ":print_suppressions=0";
}

const char *__ubsan_default_options(void) {
    return "log_path=" REPORT ":exitcode=99:print_stacktrace=1";
}
