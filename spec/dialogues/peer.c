/*
** peer.c: a server of the Model Context Protocol that says what a script says, however wrong.
**
** usage: peer stdio SCRIPT   plays over stdin and stdout, until stdin ends
**        peer http           prints its port; the path of each request names the script, "/SCRIPT"
**                            relative to the working directory; ends when stdin does
**
** A script is a sequence of sections. "@KEY" begins the one that is played when a message with that
** key comes: the number of a request's id, "n" for a notification, "a" for an answer to us, over
** HTTP also "GET" and "DELETE". A message without a section gets nothing over stdio, and what a
** server should say over HTTP (202, 405, 200; nothing for a request). A section is a sequence of
** acts, each a line, some followed by so many bytes and a line end:
**
**   W BYTES         says the bytes              E BYTES   says them on stderr (stdio)
**   T MS BYTES      says them byte by byte, so many milliseconds apart
**   F COUNT BYTES   says them so often
**   S MS            waits                       H         waits for the other side to go
**   C               closes the output           R         resets the connection (stdio: exits 0)
**   X CODE          exits with that code        K NUMBER  is ended by that signal
**
** Over HTTP each connection takes one request and has a process of its own, which ends with it.
*/
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LARGEST_REQUEST (1 << 20) /* bytes; of ours only */
#define LONGEST_WAIT 30           /* seconds */

typedef struct {
    char *data;
    size_t size;
} Text;

typedef struct {
    int in, out; /* the same socket over HTTP */
    bool is_http;
} Peer;

static Text read_script(const char *path) {
    Text text = {0};
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        exit(99);
    text.size = (size_t)ftell(file);
    text.data = malloc(text.size + 1);
    rewind(file);
    if (!text.data || fread(text.data, 1, text.size, file) != text.size)
        exit(99);
    text.data[text.size] = 0;
    fclose(file);
    return text;
}

/* Says bytes; ends the process when nobody listens. */
static void say(int to, const char *data, size_t size) {
    while (size > 0) {
        ssize_t done = write(to, data, size);
        if (done <= 0)
            exit(0);
        data += done, size -= (size_t)done;
    }
}

static void pause_for(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* Waits until the other side hangs up; over stdio until stdin ends, whatever comes. */
static void hang(const Peer *p) {
    time_t end = time(NULL) + LONGEST_WAIT;
    char waste[4096];
    while (time(NULL) < end) {
        struct pollfd one = {.fd = p->in, .events = p->is_http ? POLLRDHUP : POLLIN};
        if (poll(&one, 1, 1000) > 0) {
            if (p->is_http || read(p->in, waste, sizeof waste) <= 0)
                break;
        }
    }
    exit(0);
}

static void reset(const Peer *p) {
    struct linger hard = {1, 0};
    if (p->is_http)
        setsockopt(p->out, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    exit(0);
}

static void close_output(const Peer *p) {
    if (p->is_http) {
        shutdown(p->out, SHUT_WR);
        hang(p);
    }
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
}

/* Does one act whose numbers are a and b; `data` is what follows its line. Returns how many bytes
** of it are the act's. */
static size_t act(const Peer *p, char verb, long a, long b, const char *data) {
    switch (verb) {
    case 'W':
        say(p->out, data, (size_t)a);
        return (size_t)a + 1;
    case 'E':
        say(STDERR_FILENO, data, (size_t)a);
        return (size_t)a + 1;
    case 'T':
        for (long i = 0; i < b; i++)
            say(p->out, data + i, 1), pause_for(a);
        return (size_t)b + 1;
    case 'F':
        for (long i = 0; i < a; i++)
            say(p->out, data, (size_t)b);
        return (size_t)b + 1;
    case 'S':
        pause_for(a);
        return 0;
    case 'H':
        hang(p);
        return 0;
    case 'C':
        close_output(p);
        return 0;
    case 'R':
        reset(p);
        return 0;
    case 'X':
        exit((int)a);
    case 'K':
        raise((int)a);
        return 0;
    default:
        exit(98);
    }
}

/* Walks the script and plays the section of that key. Returns whether there is one. */
static bool play(const Peer *p, const Text *script, const char *key) {
    const char *at = script->data, *end = at + script->size;
    bool found = false, plays = false;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop)
            exit(98);
        if (*at == '@') {
            size_t size = (size_t)(stop - at - 1);
            plays = strlen(key) == size && memcmp(at + 1, key, size) == 0;
            found = found || plays;
            at = stop + 1;
            continue;
        }
        char *next;
        char verb = *at;
        long a = strtol(at + 1, &next, 10), b = strtol(next, NULL, 10);
        at = stop + 1;
        if (plays)
            at += act(p, verb, a, b, at);
        else if (verb == 'W' || verb == 'E')
            at += a + 1;
        else if (verb == 'T' || verb == 'F')
            at += b + 1;
    }
    return found;
}

/* The key of a message of the client under test, whose JSON is canonical. */
static void key_of(const char *message, char key[24]) {
    const char *id = strstr(message, "\"id\":");
    if (!strstr(message, "\"method\":"))
        strcpy(key, "a");
    else if (!id)
        strcpy(key, "n");
    else
        snprintf(key, 24, "%ld", strtol(id + 5, NULL, 10));
}

static void play_stdio(const char *path) {
    Peer p = {.in = STDIN_FILENO, .out = STDOUT_FILENO};
    Text script = read_script(path);
    char *line = NULL, key[24];
    size_t size = 0;
    /* Unbuffered: what hang() reads must not lie in a buffer already. */
    setvbuf(stdin, NULL, _IONBF, 0);
    while (getline(&line, &size, stdin) > 0) {
        key_of(line, key);
        play(&p, &script, key);
    }
    free(line);
    free(script.data);
}

/* Reads a request with its body; NULL when it does not come. */
static char *read_request(int from) {
    char *data = malloc(LARGEST_REQUEST + 1);
    size_t size = 0, wanted = LARGEST_REQUEST;
    while (data && size < wanted) {
        ssize_t got = read(from, data + size, wanted - size);
        if (got <= 0)
            break;
        size += (size_t)got;
        data[size] = 0;
        char *body = strstr(data, "\r\n\r\n"), *length = strcasestr(data, "Content-Length:");
        if (body && wanted == LARGEST_REQUEST) {
            wanted = (size_t)(body + 4 - data);
            wanted += length && length < body ? (size_t)strtol(length + 15, NULL, 10) : 0;
        }
    }
    if (data && size >= wanted)
        return data;
    free(data);
    return NULL;
}

static void serve_one(int socket) {
    Peer p = {.in = socket, .out = socket, .is_http = true};
    char *request = read_request(socket), path[256], method[8], key[24];
    if (!request || sscanf(request, "%7s /%255s", method, path) != 2)
        exit(0);
    Text script = read_script(path);
    if (strcmp(method, "POST") == 0)
        key_of(strstr(request, "\r\n\r\n"), key);
    else
        snprintf(key, sizeof key, "%s", method);
    if (!play(&p, &script, key)) {
        const char *status = NULL;
        char answer[128];
        if (strcmp(key, "GET") == 0)
            status = "405 None";
        else if (strcmp(key, "DELETE") == 0)
            status = "200 Fine";
        else if (*key == 'n' || *key == 'a')
            status = "202 Taken";
        if (status) {
            snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", status);
            say(p.out, answer, strlen(answer));
        }
    }
    free(script.data);
    free(request);
    exit(0);
}

static int listen_here(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 64) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        exit(97);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void play_http(void) {
    int listener = listen_here();
    signal(SIGCHLD, SIG_IGN); /* nobody waits for them */
    while (true) {
        struct pollfd both[] = {{.fd = listener, .events = POLLIN},
                                {.fd = STDIN_FILENO, .events = POLLIN}};
        if (poll(both, 2, -1) < 0 || both[1].revents)
            return;
        int socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (socket >= 0 && fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(listener);
            serve_one(socket);
        }
        close(socket);
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "stdio") == 0)
        play_stdio(argv[2]);
    else if (argc == 2 && strcmp(argv[1], "http") == 0)
        play_http();
    else
        return 2;
    return 0;
}
