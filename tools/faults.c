/* A disk that fails, and a process that dies, at exactly the i-th call: preloaded into exclave by kill_rounds.py.
 *
 *   cc -shared -fPIC -O1 -o faults.so faults.c -ldl
 *
 *   FAULT_PATH    what the file's path must contain; several, separated by ':'
 *   FAULT_CALLS   which calls count, of: write sync rename unlink truncate open (commas between); all but open without it
 *   FAULT_AT      which matching call it happens at, from 1; 0 only counts
 *   FAULT_HOW     error   the call does nothing and fails
 *                 torn    a write stores half and fails
 *                 drop    a sync fails, and what was appended since the last one is gone, as when a kernel drops pages
 *                 kill    the process is killed before the call
 *                 killed  the process is killed after the call
 *                 stop    the process is stopped before the call, until somebody continues or kills it
 *   FAULT_ERRNO   number of the error; EIO without it
 *   FAULT_LASTS   1: every later matching call fails too
 *   FAULT_REPORT  a file of 16 bytes that gets two numbers: matching calls so far, and 1 once it has happened
 *
 * What is called without the C library isn't seen: rustix's renameat2 and syncfs at sites, flock, memory that is mapped.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, RENAME = 4, UNLINK = 8, TRUNCATE = 16, OPEN = 32 };

static const char *paths, *how;
static int calls, number, lasts;
static uint64_t at, own[2], *report = own;

__attribute__((constructor)) static void begin(void) {
    static const struct { const char *name; int call; } known[] = {
        {"write", WRITE}, {"sync", SYNC}, {"rename", RENAME}, {"unlink", UNLINK}, {"truncate", TRUNCATE}, {"open", OPEN}};
    const char *text;
    paths = getenv("FAULT_PATH");
    how = (text = getenv("FAULT_HOW")) ? text : "error";
    at = (text = getenv("FAULT_AT")) ? strtoull(text, 0, 10) : 0;
    number = (text = getenv("FAULT_ERRNO")) ? atoi(text) : EIO;
    lasts = (text = getenv("FAULT_LASTS")) && *text == '1';
    text = getenv("FAULT_CALLS");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (text && *text ? !!strstr(text, known[i].name) : known[i].call != OPEN) calls |= known[i].call;
    if ((text = getenv("FAULT_REPORT"))) {
        int fd = open(text, O_RDWR | O_CLOEXEC);
        void *mapped = fd < 0 ? MAP_FAILED : mmap(0, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (mapped != MAP_FAILED) report = mapped;
        if (fd >= 0) close(fd);
    }
}

static int matches(int call, const char *path) {
    if (!paths || !(calls & call)) return 0;
    for (const char *part = paths; *part;) {
        size_t length = strcspn(part, ":");
        char wanted[256];
        if (length && length < sizeof wanted) {
            memcpy(wanted, part, length);
            wanted[length] = 0;
            if (strstr(path, wanted)) return 1;
        }
        part += length + (part[length] == ':');
    }
    return 0;
}

/* 0: go on as if nothing was; 1: this is the call. */
static int reached(int call, const char *path) {
    if (!matches(call, path)) return 0;
    uint64_t count = __atomic_add_fetch(&report[0], 1, __ATOMIC_SEQ_CST);
    if (!at || (lasts ? count < at : count != at)) return 0;
    report[1] = 1;
    if (!strcmp(how, "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(how, "stop")) {
        kill(getpid(), SIGSTOP);
        return 0;
    }
    return 1;
}

static int reached_fd(int call, int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return reached(call, path);
}

static int refuse(void) {
    errno = number;
    return -1;
}

/* What is durable of each file that was appended to: its length at the last sync. */
static struct { dev_t device; ino_t inode; off_t durable; } files[256];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static off_t *durable(int fd, off_t *now) {
    struct stat info;
    if (strcmp(how, "drop") || fstat(fd, &info) || !S_ISREG(info.st_mode)) return 0;
    *now = info.st_size;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (files[i].inode == info.st_ino && files[i].device == info.st_dev) return &files[i].durable;
        if (!files[i].inode) {
            files[i].device = info.st_dev, files[i].inode = info.st_ino, files[i].durable = info.st_size;
            return &files[i].durable;
        }
    }
    return 0;
}

#define REAL(name, ...)                                        \
    static __typeof__(name) *real;                             \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static void after(void) {
    if (!strcmp(how, "killed")) kill(getpid(), SIGKILL);
}

#define WRITING(fd, bytes, count, ...)                                     \
    off_t now;                                                             \
    pthread_mutex_lock(&lock);                                             \
    durable(fd, &now);                                                     \
    pthread_mutex_unlock(&lock);                                           \
    if (!reached_fd(WRITE, fd)) return real(fd, bytes, count, ##__VA_ARGS__); \
    if (!strcmp(how, "killed") || !strcmp(how, "torn")) {                  \
        ssize_t done = real(fd, bytes, strcmp(how, "torn") ? count : count / 2, ##__VA_ARGS__); \
        (void)done;                                                        \
        after();                                                           \
    }                                                                      \
    return refuse()

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(write);
    WRITING(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    REAL(pwrite);
    WRITING(fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    REAL(pwrite64);
    WRITING(fd, bytes, count, offset);
}

static int syncing(int fd, int (*real)(int)) {
    off_t now, *kept;
    if (!reached_fd(SYNC, fd)) {
        int result = real(fd);
        pthread_mutex_lock(&lock);
        if (!result && (kept = durable(fd, &now))) *kept = now;
        pthread_mutex_unlock(&lock);
        return result;
    }
    if (!strcmp(how, "killed")) {
        real(fd);
        after();
    }
    pthread_mutex_lock(&lock);
    if ((kept = durable(fd, &now)) && *kept < now && syscall(SYS_ftruncate, fd, *kept)) _exit(99);
    pthread_mutex_unlock(&lock);
    return refuse();
}

int fsync(int fd) {
    REAL(fsync);
    return syncing(fd, real);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return syncing(fd, real);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    if (!reached(RENAME, to)) return real(from, to);
    if (!strcmp(how, "killed")) {
        real(from, to);
        after();
    }
    return refuse();
}

int unlink(const char *path) {
    REAL(unlink);
    if (!reached(UNLINK, path)) return real(path);
    if (!strcmp(how, "killed")) {
        real(path);
        after();
    }
    return refuse();
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    if (!reached_fd(TRUNCATE, fd)) return real(fd, length);
    if (!strcmp(how, "killed")) {
        real(fd, length);
        after();
    }
    return refuse();
}

int open64(const char *path, int flags, ...) {
    REAL(open64);
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;
    va_end(list);
    return reached(OPEN, path) ? refuse() : real(path, flags, mode);
}
