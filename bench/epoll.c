/* The raw epoll echo loop of src/serve/epoll.rs in C: same calls, same buffer, same registration. Keeps the Rust one
   honest. Built and run by `conet-bench compare`; by hand: cc -O2 -o epoll-c epoll.c && ./epoll-c 127.0.0.1:7000 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 4 * 1024, BACKLOG = 4096, EVENTS = 1024, FILES_MAX = 1 << 20 };

/* Received and not yet taken by the kernel; nothing more is received meanwhile. */
struct connection {
    char *unsent;
    size_t from, to;
};

static struct connection *connections;
static char buffer[BUFFER_BYTES];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int listen_on(const char *text) {
    char host[64];
    const char *colon = strrchr(text, ':');
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (!colon || (size_t)(colon - text) >= sizeof host) {
        fprintf(stderr, "not an address and port: %s\n", text);
        exit(2);
    }
    memcpy(host, text, colon - text);
    host[colon - text] = 0;
    address.sin_port = htons(atoi(colon + 1));
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "not an IPv4 address: %s\n", host);
        exit(2);
    }
    int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0) fail("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address)) fail("bind");
    if (listen(listener, BACKLOG)) fail("listen");
    socklen_t length = sizeof address;
    if (getsockname(listener, (struct sockaddr *)&address, &length)) fail("getsockname");
    inet_ntop(AF_INET, &address.sin_addr, host, sizeof host);
    fprintf(stderr, "listening on %s:%d\n", host, ntohs(address.sin_port));
    return listener;
}

static void accept_all(int epoll, int listener) {
    for (;;) {
        int one = 1;
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && errno == EAGAIN) return;
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
        if (fd < 0) fail("accept");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
    }
}

/* 1: all sent; 0: the socket takes nothing more; -1: broken. */
static int flush(int fd, struct connection *connection) {
    while (connection->from < connection->to) {
        ssize_t sent =
            send(fd, connection->unsent + connection->from, connection->to - connection->from, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN ? 0 : -1;
        connection->from += sent;
    }
    return 1;
}

/* 0: wait for the next event; -1: close. */
static int echo(int fd, struct connection *connection, int ending) {
    for (;;) {
        int flushed = flush(fd, connection);
        if (flushed <= 0) return flushed;
        ssize_t received = recv(fd, buffer, sizeof buffer, 0);
        if (received < 0) return errno == EAGAIN ? 0 : -1;
        if (received == 0) return -1;
        ssize_t sent = send(fd, buffer, received, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return -1;
        if (sent < 0) sent = 0;
        if (sent < received) {
            if (!connection->unsent && !(connection->unsent = malloc(BUFFER_BYTES))) fail("malloc");
            memcpy(connection->unsent, buffer + sent, received - sent);
            connection->from = 0;
            connection->to = received - sent;
        } else if (received < BUFFER_BYTES && !ending) {
            return 0;
        }
    }
}

static void close_connection(int fd) {
    free(connections[fd].unsent);
    connections[fd] = (struct connection){0};
    close(fd);
}

int main(int argc, char **argv) {
    static struct epoll_event events[EVENTS];
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files)) fail("getrlimit");
    files.rlim_cur = files.rlim_max < FILES_MAX ? files.rlim_max : FILES_MAX;
    if (setrlimit(RLIMIT_NOFILE, &files)) fail("setrlimit");
    connections = calloc(files.rlim_cur, sizeof *connections);
    if (!connections) fail("calloc");

    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) fail("epoll_create1");
    int listener = listen_on(argc > 1 ? argv[1] : "127.0.0.1:7000");
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = listener};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event)) fail("epoll_ctl");
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            unsigned flags = events[i].events;
            if (fd == listener) {
                accept_all(epoll, listener);
                continue;
            }
            struct connection *connection = &connections[fd];
            if (flags == EPOLLOUT && connection->from == connection->to) continue;
            if (echo(fd, connection, flags & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) < 0) close_connection(fd);
        }
    }
}
