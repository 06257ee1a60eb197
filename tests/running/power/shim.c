/* Preloaded into a process: writes down, in order, everything that it does to files below POWER_ROOT.

   Each call and its record are made under one lock, so the order of records is the order of effects. A call that the
   player could not repeat is recorded as X and fails the test instead of being overlooked. With POWER_KILL_AT=N the
   process is killed just before its N-th recorded call. */
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
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 4096
#define PATHS 4096
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char tracked[FILES];
static char root[PATHS];
static size_t root_length;
static int trace = -1;
static long made, kill_at;

struct __attribute__((packed)) record { uint8_t kind; int32_t file; uint64_t number; uint64_t first; uint64_t second; };

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("POWER_ROOT"), *into = getenv("POWER_TRACE"), *at = getenv("POWER_KILL_AT");
    if (!where || !into) return;
    snprintf(root, sizeof root, "%s/", where);
    root_length = strlen(root);
    kill_at = at ? atol(at) : 0;
    trace = syscall(SYS_openat, AT_FDCWD, into, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int ours(const char *path) {
    size_t length = strlen(path);
    return trace >= 0 && (strncmp(path, root, root_length) == 0 || (length + 1 == root_length && strncmp(path, root, length) == 0));
}

static int is_tracked(int file) { return file >= 0 && file < FILES && tracked[file]; }

static void put(const void *bytes, size_t length) {
    while (length) {
        long done = syscall(SYS_write, trace, bytes, length);
        if (done <= 0) abort();
        bytes = (const char *)bytes + done;
        length -= done;
    }
}

static void note(char kind, int file, uint64_t number, const void *first, size_t first_length, const char *second) {
    struct record head = {kind, file, number, first_length, second ? strlen(second) : 0};
    put(&head, sizeof head);
    put(first, first_length);
    if (second) put(second, head.second);
}

static void count(void) {
    if (kill_at && ++made == kill_at) kill(getpid(), SIGKILL);
}

static void resolve(int folder, const char *path, char *into) {
    char name[64];
    long length;
    if (path[0] == '/') { snprintf(into, PATHS, "%s", path); return; }
    if (folder == AT_FDCWD) snprintf(name, sizeof name, "/proc/self/cwd");
    else snprintf(name, sizeof name, "/proc/self/fd/%d", folder);
    length = syscall(SYS_readlinkat, AT_FDCWD, name, into, PATHS - 1);
    if (length < 0) length = 0;
    snprintf(into + length, PATHS - length, "/%s", path);
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)

static int opened(int folder, const char *path, int flags, mode_t mode) {
    char full[PATHS];
    struct stat found;
    resolve(folder, path, full);
    if (!ours(full)) {
        int file = syscall(SYS_openat, folder, path, flags, mode);
        if (file >= 0 && file < FILES) tracked[file] = 0;
        return file;
    }
    pthread_mutex_lock(&lock);
    int was = stat(full, &found) == 0;
    int writes = (flags & O_CREAT && !was) || (flags & O_TRUNC && was);
    if (writes) count();
    int file = syscall(SYS_openat, folder, path, flags, mode), error = errno;
    if (file >= 0) {
        if (file >= FILES) abort();
        tracked[file] = 1;
        note('O', file, (!was && flags & O_CREAT ? 1 : 0) | (was && flags & O_TRUNC ? 2 : 0), full, strlen(full), NULL);
        if (flags & (O_TMPFILE & ~O_DIRECTORY)) note('X', file, 0, "O_TMPFILE", 9, NULL);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return file;
}

#define MODE mode_t mode = 0; if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE return opened(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE return opened(folder, path, flags, mode); }
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int file) {
    if (file >= 0 && file < FILES) tracked[file] = 0;
    return syscall(SYS_close, file);
}

#define ACT(kind, call, number, bytes, length) \
    pthread_mutex_lock(&lock); count(); \
    long done = call; int error = errno; \
    if (done >= 0) note(kind, file, number, bytes, length, NULL); \
    pthread_mutex_unlock(&lock); errno = error; return done

ssize_t write(int file, const void *bytes, size_t length) {
    if (!is_tracked(file)) return syscall(SYS_write, file, bytes, length);
    ACT('W', syscall(SYS_write, file, bytes, length), syscall(SYS_lseek, file, 0, SEEK_CUR) - done, bytes, done);
}
ssize_t pwrite(int file, const void *bytes, size_t length, off_t at) {
    if (!is_tracked(file)) return syscall(SYS_pwrite64, file, bytes, length, at);
    ACT('W', syscall(SYS_pwrite64, file, bytes, length, at), at, bytes, done);
}
ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at) { return pwrite(file, bytes, length, at); }
int ftruncate(int file, off_t size) {
    if (!is_tracked(file)) return syscall(SYS_ftruncate, file, size);
    ACT('T', syscall(SYS_ftruncate, file, size), size, "", 0);
}
int ftruncate64(int file, off64_t size) { return ftruncate(file, size); }
int fsync(int file) {
    if (!is_tracked(file)) return syscall(SYS_fsync, file);
    ACT('S', syscall(SYS_fsync, file), 0, "", 0);
}
int fdatasync(int file) {
    if (!is_tracked(file)) return syscall(SYS_fdatasync, file);
    ACT('S', syscall(SYS_fdatasync, file), 0, "", 0);
}

static int renamed(int from, const char *old, int to, const char *new, unsigned flags) {
    char first[PATHS], second[PATHS];
    resolve(from, old, first);
    resolve(to, new, second);
    if (!ours(first) && !ours(second)) return syscall(SYS_renameat2, from, old, to, new, flags);
    pthread_mutex_lock(&lock);
    count();
    int done = syscall(SYS_renameat2, from, old, to, new, flags), error = errno;
    if (done == 0) note(flags & RENAME_EXCHANGE ? 'X' : 'R', -1, 0, first, strlen(first), second);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int rename(const char *old, const char *new) { return renamed(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int from, const char *old, int to, const char *new) { return renamed(from, old, to, new, 0); }
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) { return renamed(from, old, to, new, flags); }

static int named(char kind, long call, int folder, const char *path, long number) {
    char full[PATHS];
    resolve(folder, path, full);
    if (!ours(full)) return syscall(call, folder, path, number);
    pthread_mutex_lock(&lock);
    count();
    int done = syscall(call, folder, path, number), error = errno;
    if (done == 0) note(kind, -1, 0, full, strlen(full), NULL);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int unlink(const char *path) { return named('U', SYS_unlinkat, AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) { return named('U', SYS_unlinkat, folder, path, flags); }
int rmdir(const char *path) { return named('U', SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR); }
int mkdir(const char *path, mode_t mode) { return named('M', SYS_mkdirat, AT_FDCWD, path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { return named('M', SYS_mkdirat, folder, path, mode); }

/* What the player cannot repeat must not go unseen. */
static void unknown(int file, const char *what) {
    if (is_tracked(file)) { pthread_mutex_lock(&lock); note('X', file, 0, what, strlen(what), NULL); pthread_mutex_unlock(&lock); }
}
ssize_t writev(int file, const struct iovec *parts, int count_) { unknown(file, "writev"); return syscall(SYS_writev, file, parts, count_); }
ssize_t pwritev(int file, const struct iovec *parts, int count_, off_t at) { unknown(file, "pwritev"); REAL(pwritev); return real(file, parts, count_, at); }
ssize_t sendfile(int to, int from, off_t *at, size_t length) { unknown(to, "sendfile"); return syscall(SYS_sendfile, to, from, at, length); }
ssize_t sendfile64(int to, int from, off64_t *at, size_t length) { unknown(to, "sendfile"); return syscall(SYS_sendfile, to, from, at, length); }
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t length, unsigned flags) {
    unknown(to, "copy_file_range");
    return syscall(SYS_copy_file_range, from, a, to, b, length, flags);
}
int posix_fallocate(int file, off_t at, off_t length) { unknown(file, "posix_fallocate"); REAL(posix_fallocate); return real(file, at, length); }
int fallocate(int file, int mode, off_t at, off_t length) { unknown(file, "fallocate"); return syscall(SYS_fallocate, file, mode, at, length); }
int link(const char *old, const char *new) { if (ours(new)) note('X', -1, 0, "link", 4, NULL); return syscall(SYS_linkat, AT_FDCWD, old, AT_FDCWD, new, 0); }
int dup2(int from, int to) { unknown(from, "dup2"); REAL(dup2); return real(from, to); }

static void mapped(int file, int protection, int flags) {
    char name[64], path[PATHS];
    if (!is_tracked(file) || !(flags & MAP_SHARED) || !(protection & PROT_WRITE)) return;
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    long length = syscall(SYS_readlinkat, AT_FDCWD, name, path, PATHS - 1);
    /* An index that is rebuilt at every opening: the player leaves it out. */
    if (length > 4 && memcmp(path + length - 4, "-shm", 4) == 0) return;
    unknown(file, "mmap");
}
void *mmap(void *at, size_t length, int protection, int flags, int file, off_t offset) {
    mapped(file, protection, flags);
    return (void *)syscall(SYS_mmap, at, length, protection, flags, file, offset);
}
void *mmap64(void *at, size_t length, int protection, int flags, int file, off64_t offset) { return mmap(at, length, protection, flags, file, offset); }
