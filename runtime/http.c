/*
** http.c: core.http, one HTTP request to a server on this machine. libcurl does the protocol.
**
** libcurl is loaded with dlopen at the first request: an upgrade whose server speaks stdio never
** needs it. Its headers give the constants and types only.
**
** libcurl reports the sockets it waits for (its "multi socket" interface) and the waiting is done
** here, in one ppoll, so that a caught signal or the end of the time ends it at once. Lua is called
** from libcurl's callbacks only through lua_pcall: no error may unwind libcurl's frames.
*/
#define _GNU_SOURCE
#define CURL_DISABLE_TYPECHECK /* its checks are macros over functions we do not link */
#define CURL_DISABLE_DEPRECATION
#include "cancel.h"
#include "core.h"
#include "system.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HANDLE "praxlua.transfer"

#define DEFAULT_TIMEOUT 30.0           /* seconds */
#define DEFAULT_CAP (16 * 1024 * 1024) /* bytes of body */
#define HEADERS_CAP (256 * 1024)       /* bytes of all header lines */
#define SOCKETS 8                      /* a transfer uses one; two while it tries both localhosts */
#define REFUSED SIZE_MAX               /* a callback's answer that is no size ends the transfer */

/* The functions of libcurl that are used; filled in by load(). */
static struct {
    void *library;
    CURLcode (*global_init)(long flags);
    CURL *(*easy_init)(void);
    CURLcode (*easy_setopt)(CURL *easy, CURLoption option, ...);
    CURLcode (*easy_getinfo)(CURL *easy, CURLINFO info, ...);
    void (*easy_cleanup)(CURL *easy);
    const char *(*easy_strerror)(CURLcode code);
    struct curl_slist *(*slist_append)(struct curl_slist *list, const char *text);
    void (*slist_free_all)(struct curl_slist *list);
    CURLM *(*multi_init)(void);
    CURLMcode (*multi_setopt)(CURLM *multi, CURLMoption option, ...);
    CURLMcode (*multi_add_handle)(CURLM *multi, CURL *easy);
    CURLMcode (*multi_remove_handle)(CURLM *multi, CURL *easy);
    CURLMcode (*multi_socket_action)(CURLM *multi, curl_socket_t fd, int events, int *running);
    CURLMsg *(*multi_info_read)(CURLM *multi, int *left);
    CURLMcode (*multi_cleanup)(CURLM *multi);
} curl;

typedef struct Bytes {
    char *data;
    size_t size, room;
} Bytes;

/* Why a transfer was ended from here, not by the server or libcurl. */
typedef enum { GOING, ENOUGH, OVER_CAP, TIMED_OUT, STOPPED, NO_MEMORY, RAISED, FOREIGN } Reason;

typedef struct Transfer {
    lua_State *L; /* of the running request; on_data at index 2, headers table at index 3 */
    CURL *easy;
    CURLM *multi;
    struct curl_slist *headers;
    Bytes body;
    size_t cap;
    size_t header_bytes;
    bool has_callback;
    Reason reason;
    CURLcode code;
    struct pollfd fds[SOCKETS];
    nfds_t fd_count;
    int64_t timer; /* when libcurl wants to be called, in ms of the monotonic clock; -1: never */
} Transfer;

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* {=== The library ===} */

/* Loads libcurl once. Returns NULL, or why it cannot be used. */
static const char *load(void) {
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4", NULL};
    const struct {
        const char *name;
        void *function;
    } symbols[] = {
        {"curl_global_init", &curl.global_init},
        {"curl_easy_init", &curl.easy_init},
        {"curl_easy_setopt", &curl.easy_setopt},
        {"curl_easy_getinfo", &curl.easy_getinfo},
        {"curl_easy_cleanup", &curl.easy_cleanup},
        {"curl_easy_strerror", &curl.easy_strerror},
        {"curl_slist_append", &curl.slist_append},
        {"curl_slist_free_all", &curl.slist_free_all},
        {"curl_multi_init", &curl.multi_init},
        {"curl_multi_setopt", &curl.multi_setopt},
        {"curl_multi_add_handle", &curl.multi_add_handle},
        {"curl_multi_remove_handle", &curl.multi_remove_handle},
        {"curl_multi_socket_action", &curl.multi_socket_action},
        {"curl_multi_info_read", &curl.multi_info_read},
        {"curl_multi_cleanup", &curl.multi_cleanup},
    };
    void *library = NULL;
    if (curl.library)
        return NULL;
    for (int i = 0; names[i] && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return "libcurl.so.4 was not found; install libcurl (Debian: libcurl4)";
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *address = dlsym(library, symbols[i].name);
        if (!address) {
            dlclose(library);
            return "libcurl.so.4 is too old";
        }
        memcpy(symbols[i].function, &address, sizeof address); /* ISO C has no such conversion */
    }
    if (curl.global_init(CURL_GLOBAL_NOTHING) != CURLE_OK) {
        dlclose(library);
        return "libcurl does not start";
    }
    curl.library = library;
    return NULL;
}

/* {=== What libcurl calls ===} */

static void end(Transfer *t, Reason reason) {
    if (t->reason == GOING)
        t->reason = reason;
}

static bool append(Bytes *bytes, const char *data, size_t size) {
    if (size > bytes->room - bytes->size) {
        size_t room = (bytes->size + size) * 2;
        char *larger = realloc(bytes->data, room);
        if (!larger)
            return false;
        bytes->data = larger;
        bytes->room = room;
    }
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
    return true;
}

/* A piece of data on its way into Lua. */
typedef struct Piece {
    const char *data;
    size_t size;
} Piece;

/* (on_data, piece) -> its answer */
static int call_on_data(lua_State *L) {
    const Piece *piece = lua_touserdata(L, 2);
    lua_settop(L, 1);
    lua_pushlstring(L, piece->data, piece->size);
    lua_call(L, 1, 1);
    return 1;
}

static size_t on_body(char *data, size_t unit, size_t count, void *transfer) {
    Transfer *t = transfer;
    Piece piece = {data, unit * count};
    if (piece.size > t->cap - t->body.size)
        return end(t, OVER_CAP), REFUSED;
    if (!append(&t->body, piece.data, piece.size))
        return end(t, NO_MEMORY), REFUSED;
    if (!t->has_callback)
        return piece.size;
    lua_pushcfunction(t->L, call_on_data);
    lua_pushvalue(t->L, 2);
    lua_pushlightuserdata(t->L, &piece);
    if (lua_pcall(t->L, 2, 1, 0) != LUA_OK) /* the error stays on the stack */
        return end(t, RAISED), REFUSED;
    bool enough = lua_isboolean(t->L, -1) && !lua_toboolean(t->L, -1);
    lua_pop(t->L, 1);
    if (enough)
        return end(t, ENOUGH), REFUSED;
    return piece.size;
}

/* Pushes a header's value. A carriage return, line feed or NUL in it, which no server should send,
** becomes a space: so RFC 9110 (5.5) has it for those who do not refuse it. */
static void push_value(lua_State *L, const char *from, const char *stop) {
    luaL_Buffer value;
    luaL_buffinit(L, &value);
    for (; from < stop; from++)
        luaL_addchar(&value, (char)(memchr("\r\n", *from, 3) ? ' ' : *from));
    luaL_pushresult(&value);
}

/* (headers, piece): headers[lowercase name] = value; a name that comes again is joined by ", " */
static int store_header(lua_State *L) {
    const Piece *piece = lua_touserdata(L, 2);
    const char *stop = piece->data + piece->size;
    const char *colon = memchr(piece->data, ':', piece->size);
    luaL_Buffer name;
    if (!colon)
        return 0;
    luaL_buffinit(L, &name);
    for (const char *c = piece->data; c < colon; c++)
        luaL_addchar(&name, (char)tolower((unsigned char)*c));
    luaL_pushresult(&name);
    const char *from = colon + 1;
    while (from < stop && (*from == ' ' || *from == '\t'))
        from++;
    while (stop > from && strchr(" \t\r\n", stop[-1]))
        stop--;
    lua_pushvalue(L, -1);
    if (lua_rawget(L, 1) == LUA_TSTRING) {
        lua_pushliteral(L, ", ");
        push_value(L, from, stop);
        lua_concat(L, 3);
    } else {
        lua_pop(L, 1);
        push_value(L, from, stop);
    }
    lua_rawset(L, 1);
    return 0;
}

static int clear_headers(lua_State *L) {
    for (lua_pushnil(L); lua_next(L, 1);) {
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_pushnil(L);
        lua_rawset(L, 1);
    }
    return 0;
}

static size_t on_header(char *data, size_t unit, size_t count, void *transfer) {
    Transfer *t = transfer;
    Piece piece = {data, unit * count};
    t->header_bytes += piece.size;
    if (t->header_bytes > HEADERS_CAP)
        return end(t, OVER_CAP), REFUSED;
    bool begins = piece.size >= 5 && memcmp(data, "HTTP/", 5) == 0;
    lua_pushcfunction(t->L, begins ? clear_headers : store_header); /* after a "100 Continue" */
    lua_pushvalue(t->L, 3);
    lua_pushlightuserdata(t->L, &piece);
    if (lua_pcall(t->L, 2, 0, 0) != LUA_OK)
        return end(t, RAISED), REFUSED;
    return piece.size;
}

/* The "any" address 0.0.0.0 is one of those: a server listens on it, and connecting to it reaches
** this machine. */
static bool is_loopback(const struct sockaddr *address) {
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)address;
        uint32_t number = ntohl(in->sin_addr.s_addr);
        return number >> 24 == 127 || number == INADDR_ANY;
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)address;
        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) || IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr) ||
               (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) && in6->sin6_addr.s6_addr[12] == 127);
    }
    return false;
}

/* Every connection begins here: the only place that decides where we may connect to. */
static curl_socket_t on_open(void *transfer, curlsocktype purpose, struct curl_sockaddr *to) {
    (void)purpose;
    if (!is_loopback(&to->addr)) {
        end(transfer, FOREIGN);
        return CURL_SOCKET_BAD;
    }
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *transfer, void *unused) {
    Transfer *t = transfer;
    nfds_t i = 0;
    (void)easy, (void)unused;
    while (i < t->fd_count && t->fds[i].fd != fd)
        i++;
    if (what == CURL_POLL_REMOVE) {
        if (i < t->fd_count)
            t->fds[i] = t->fds[--t->fd_count];
        return 0;
    }
    if (i == SOCKETS)
        return -1;
    if (i == t->fd_count)
        t->fd_count++;
    t->fds[i] = (struct pollfd){.fd = fd};
    if (what & CURL_POLL_IN)
        t->fds[i].events |= POLLIN;
    if (what & CURL_POLL_OUT)
        t->fds[i].events |= POLLOUT;
    return 0;
}

static int on_timer(CURLM *multi, long after, void *transfer) {
    Transfer *t = transfer;
    (void)multi;
    t->timer = after < 0 ? -1 : now_ms() + after;
    return 0;
}

/* {=== The transfer ===} */

/* Waits for a socket, libcurl's timer or `deadline`. The caught signals are blocked between the
** look at the flag and the wait, so none is missed. */
static void wait_ready(Transfer *t, int64_t deadline) {
    sigset_t caught, before;
    int64_t until = t->timer >= 0 && t->timer < deadline ? t->timer : deadline;
    int64_t left = until - now_ms();
    struct timespec time = {left / 1000, left % 1000 * 1000000};
    for (nfds_t i = 0; i < t->fd_count; i++)
        t->fds[i].revents = 0;
    sigemptyset(&caught);
    sigaddset(&caught, SIGINT);
    sigaddset(&caught, SIGTERM);
    sigaddset(&caught, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &caught, &before);
    if (system_interrupted())
        end(t, STOPPED);
    else if (left > 0)
        ppoll(t->fds, t->fd_count, &time, &before);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Tells libcurl what has become ready. */
static void act(Transfer *t) {
    struct pollfd ready[SOCKETS];
    nfds_t count = t->fd_count; /* the calls change the list */
    int running;
    memcpy(ready, t->fds, count * sizeof *ready);
    for (nfds_t i = 0; i < count; i++) {
        int events = 0;
        if (ready[i].revents & POLLIN)
            events |= CURL_CSELECT_IN;
        if (ready[i].revents & POLLOUT)
            events |= CURL_CSELECT_OUT;
        if (ready[i].revents & (POLLERR | POLLHUP | POLLNVAL))
            events |= CURL_CSELECT_ERR;
        if (events)
            curl.multi_socket_action(t->multi, ready[i].fd, events, &running);
    }
    if (t->timer >= 0 && now_ms() >= t->timer) {
        t->timer = -1;
        curl.multi_socket_action(t->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
}

/* Runs the transfer to its end; leaves t->reason and t->code. */
static void run(Transfer *t, double seconds) {
    int64_t deadline = now_ms() + (int64_t)(seconds * 1000);
    if (cancel_deadline() / 1000000 < deadline)
        deadline = cancel_deadline() / 1000000;
    int left;
    CURLMsg *message = NULL;
    if (curl.multi_add_handle(t->multi, t->easy) != CURLM_OK) {
        end(t, NO_MEMORY);
        return;
    }
    while (!message && t->reason == GOING) {
        wait_ready(t, deadline);
        if (t->reason != GOING)
            break;
        act(t);
        message = curl.multi_info_read(t->multi, &left);
        if (!message && now_ms() >= deadline)
            end(t, TIMED_OUT);
    }
    if (message)
        t->code = message->data.result;
    curl.multi_remove_handle(t->multi, t->easy);
}

static void release(Transfer *t) {
    if (t->multi)
        curl.multi_cleanup(t->multi);
    if (t->easy)
        curl.easy_cleanup(t->easy);
    curl.slist_free_all(t->headers);
    free(t->body.data);
    *t = (Transfer){0};
}

static int transfer_gc(lua_State *L) {
    Transfer *t = luaL_checkudata(L, 1, HANDLE);
    if (curl.library)
        release(t);
    return 0;
}

static bool add_header(Transfer *t, const char *line) {
    struct curl_slist *longer = curl.slist_append(t->headers, line);
    if (longer)
        t->headers = longer;
    return longer != NULL;
}

/* A header's name is a token, a value has no line break: what we send cannot be split in two. */
static bool is_header(const char *name, const char *value, size_t name_size, size_t value_size) {
    for (size_t i = 0; i < name_size; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("!#$%&'*+-.^_`|~", name[i]))
            return false;
    return name_size > 0 && strlen(name) == name_size && strlen(value) == value_size &&
           !strpbrk(value, "\r\n");
}

/* options.headers, and an empty Expect and Content-Type where libcurl would put its own. Pushes
** nil, message, code on failure. */
static int set_headers(lua_State *L, Transfer *t) {
    bool typed = false;
    int type = lua_getfield(L, 1, "headers");
    int given = lua_gettop(L);
    if (type == LUA_TNIL)
        lua_newtable(L), lua_replace(L, given);
    else if (type != LUA_TTABLE)
        return luaL_error(L, "option 'headers' must be a table, not %s", luaL_typename(L, -1));
    for (lua_pushnil(L); lua_next(L, given); lua_pop(L, 2)) {
        size_t name_size, value_size;
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
            return luaL_error(L, "option 'headers' must map strings to strings");
        const char *name = lua_tolstring(L, -2, &name_size);
        const char *value = lua_tolstring(L, -1, &value_size);
        if (!is_header(name, value, name_size, value_size))
            return core_fail(L, "EINVAL", "send a request: a header's name or value is malformed");
        typed = typed || strcasecmp(name, "Content-Type") == 0;
        lua_pushfstring(L, *value ? "%s: %s" : "%s;%s", name, value); /* libcurl's form of none */
        if (!add_header(t, lua_tostring(L, -1)))
            return core_errno(L, ENOMEM, "send a request", NULL);
    }
    lua_pop(L, 1);
    if (!add_header(t, "Expect:") || (!typed && !add_header(t, "Content-Type:")))
        return core_errno(L, ENOMEM, "send a request", NULL);
    return 0;
}

static void set_method(lua_State *L, Transfer *t) {
    const char *method = core_opt_string(L, 1, "method", "GET");
    size_t size = 0;
    int type = lua_getfield(L, 1, "body");
    const char *body = lua_tolstring(L, -1, &size);
    if (type != LUA_TNIL && type != LUA_TSTRING)
        luaL_error(L, "option 'body' must be a string, not %s", luaL_typename(L, -1));
    if (strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(method) || !*method)
        luaL_error(L, "option 'method' must be a word in capitals");
    if (strcmp(method, "HEAD") == 0) {
        curl.easy_setopt(t->easy, CURLOPT_NOBODY, 1L);
    } else if (body || strcmp(method, "GET") != 0) {
        if (body || strcmp(method, "POST") == 0) { /* libcurl copies nothing: options keep it */
            curl.easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size);
            curl.easy_setopt(t->easy, CURLOPT_POSTFIELDS, body ? body : "");
        }
        curl.easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, method);
    }
    lua_pop(L, 1);
}

/* Makes libcurl's handles and sets every option. Pushes nil, message, code on failure. */
static int prepare(lua_State *L, Transfer *t, const char *url) {
    t->easy = curl.easy_init();
    t->multi = curl.multi_init();
    if (!t->easy || !t->multi)
        return core_errno(L, ENOMEM, "request", url);
    int failed = set_headers(L, t);
    if (failed)
        return failed;
    set_method(L, t);
    curl.easy_setopt(t->easy, CURLOPT_URL, url);
    curl.easy_setopt(t->easy, CURLOPT_PROTOCOLS, (long)CURLPROTO_HTTP);
    curl.easy_setopt(t->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl.easy_setopt(t->easy, CURLOPT_PROXY, "");
    curl.easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
    curl.easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)INT32_MAX); /* ours counts */
    curl.easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    curl.easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl.easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    curl.easy_setopt(t->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl.easy_setopt(t->easy, CURLOPT_HEADERDATA, t);
    curl.easy_setopt(t->easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl.easy_setopt(t->easy, CURLOPT_OPENSOCKETDATA, t);
    curl.multi_setopt(t->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl.multi_setopt(t->multi, CURLMOPT_SOCKETDATA, t);
    curl.multi_setopt(t->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl.multi_setopt(t->multi, CURLMOPT_TIMERDATA, t);
    return 0;
}

/* The error of a transfer that libcurl has ended. */
static int push_curl_error(lua_State *L, const Transfer *t, const char *url) {
    const char *code = "EPROTO";
    long error = 0;
    switch (t->code) {
    case CURLE_COULDNT_CONNECT:
        curl.easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &error);
        return core_errno(L, error ? (int)error : ECONNREFUSED, "connect to", url);
    case CURLE_URL_MALFORMAT:
        code = "EINVAL";
        break;
    case CURLE_UNSUPPORTED_PROTOCOL: /* of the URL, or an answer that is not HTTP */
        code = strncasecmp(url, "http://", 7) == 0 ? "EPROTO" : "EINVAL";
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
        code = "EHOSTUNREACH";
        break;
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        code = "ECONNRESET";
        break;
    case CURLE_OPERATION_TIMEDOUT:
        code = "ETIMEDOUT";
        break;
    case CURLE_OUT_OF_MEMORY:
        code = "ENOMEM";
        break;
    default:
        break;
    }
    return core_fail(L, code, "request %s: %s", url, curl.easy_strerror(t->code));
}

/* The answer, or nil, message, code; raises what on_data raised. */
static int push_result(lua_State *L, const Transfer *t, const char *url) {
    long status = 0;
    switch (t->reason) {
    case RAISED:
        return lua_error(L);
    case OVER_CAP:
        return core_fail(L, "EFBIG", "request %s: the answer is larger than the cap", url);
    case TIMED_OUT:
        return core_fail(L, "ETIMEDOUT", "request %s: no complete answer in time", url);
    case STOPPED:
        return core_fail(L, "EINTR", "request %s: interrupted", url);
    case NO_MEMORY:
        return core_errno(L, ENOMEM, "request", url);
    case FOREIGN:
        return core_fail(L, "EACCES", "request %s: not an address of this machine", url);
    case ENOUGH:
        break;
    case GOING:
        if (t->code != CURLE_OK)
            return push_curl_error(L, t, url);
    }
    curl.easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, status);
    lua_setfield(L, -2, "status");
    lua_pushvalue(L, 3);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, t->body.data ? t->body.data : "", t->body.size);
    lua_setfield(L, -2, "body");
    return 1;
}

/*
** http.request(options) -> { status, headers, body } | nil, message, code
**
** options.url      "http://" and an address of this machine (127.0.0.0/8, ::1, or a name of one)
** options.method   default "GET"
** options.headers  { Name = value }
** options.body     string
** options.timeout  seconds for the whole request (default 30)
** options.cap      bytes of body (default 16 MiB)
** options.on_data  function(chunk): called as the body comes; false ends the request with what came
**
** `headers` has lowercase names. Redirects are not followed, proxies not used. Every status is a
** result. An error that on_data raises is raised again.
** Codes: ETIMEDOUT, ECONNREFUSED (and others of connect(2)), ECONNRESET (the connection ended
** before the answer), EPROTO (not HTTP), EFBIG (over the cap), EACCES (not this machine), EINVAL
** (the URL, a header), EHOSTUNREACH (no such name), EINTR (core.system.interrupted()), ENOLIB (no
** libcurl), ENOMEM.
*/
static int http_request(lua_State *L) {
    size_t url_size;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    bool has_callback = lua_getfield(L, 1, "on_data") != LUA_TNIL; /* index 2 */
    if (has_callback && lua_type(L, 2) != LUA_TFUNCTION)
        return luaL_error(L, "option 'on_data' must be a function, not %s", luaL_typename(L, 2));
    lua_newtable(L); /* index 3: the answer's headers */
    double seconds = core_opt_number(L, 1, "timeout", DEFAULT_TIMEOUT);
    lua_Integer cap = core_opt_integer(L, 1, "cap", DEFAULT_CAP);
    luaL_argcheck(L, seconds >= 0 && seconds < 1e9, 1, "option 'timeout' is out of range");
    luaL_argcheck(L, cap >= 0, 1, "option 'cap' is negative");
    luaL_argcheck(L, lua_getfield(L, 1, "url") == LUA_TSTRING, 1, "option 'url' must be a string");
    const char *url = lua_tolstring(L, -1, &url_size);
    if (strlen(url) != url_size)
        return core_fail(L, "EINVAL", "request: the URL holds a NUL");
    const char *missing = load();
    if (missing)
        return core_fail(L, "ENOLIB", "request %s: %s", url, missing);
    Transfer *t = lua_newuserdatauv(L, sizeof *t, 0);
    *t = (Transfer){.L = L, .cap = (size_t)cap, .has_callback = has_callback, .timer = -1};
    luaL_setmetatable(L, HANDLE);
    lua_pushvalue(L, -1);
    lua_toclose(L, -1);
    luaL_checkstack(L, 20, "request");
    int failed = prepare(L, t, url);
    if (failed)
        return failed;
    run(t, seconds);
    return push_result(L, t, url);
}

static const luaL_Reg metamethods[] = {
    {"__gc", transfer_gc},
    {"__close", transfer_gc},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"request", http_request},
    {NULL, NULL},
};

int luaopen_praxlua_http(lua_State *L) {
    luaL_newmetatable(L, HANDLE);
    luaL_setfuncs(L, metamethods, 0);
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
