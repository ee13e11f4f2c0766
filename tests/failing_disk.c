/* Lets one file operation of a process fail: the nth under a folder, once or from then on.

   Loaded by LD_PRELOAD before libc, of which it calls the function of the same name. What a descriptor is
   open on is what /proc says. The process sets what shall fail by `fail`, and asks what was done by `done`. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LOOKS = 1, READS = 2, CHANGES = 4, WRITES = 8 }; /* names and files; names and files */

static char folder[PATH_MAX];
static int kinds, nth, number, lasts, count;

void fail(const char *under, int which, int which_one, int error, int for_ever) {
    strcpy(folder, under);
    kinds = which, nth = which_one, number = error, lasts = for_ever;
    __atomic_store_n(&count, 0, __ATOMIC_SEQ_CST);
}

int done(void) { return __atomic_load_n(&count, __ATOMIC_SEQ_CST); }

static int fails_at(int kind, const char *path) {
    size_t length = strlen(folder);
    if (!length || !(kind & kinds) || strncmp(path, folder, length)) return 0;
    if (path[length] != '/' && path[length]) return 0;
    int mine = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (mine != nth && !(lasts && nth && mine > nth)) return 0;
    errno = number;
    return 1;
}

static int fails_on(int kind, int descriptor, const char *name) {
    char link[64], path[2 * PATH_MAX];
    if (!folder[0] || (name && name[0] == '/')) return folder[0] && fails_at(kind, name);
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = descriptor == AT_FDCWD ? 0 : readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (name) snprintf(path + length, PATH_MAX, "/%s", name);
    return fails_at(kind, path);
}

#define OTHER(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define BY_NAME(kind, type, failed, name, parameters, path, ...) \
    type name parameters { return fails_at(kind, path) ? failed : OTHER(name)(__VA_ARGS__); }
#define BY_FILE(kind, type, name, parameters, file, path, ...) \
    type name parameters { return fails_on(kind, file, path) ? -1 : OTHER(name)(__VA_ARGS__); }
#define OPENING (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC) ? CHANGES : LOOKS)
#define MODE va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more)

int open(const char *path, int flags, ...) {
    MODE;
    return fails_at(OPENING, path) ? -1 : OTHER(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE;
    return fails_at(OPENING, path) ? -1 : OTHER(open64)(path, flags, mode);
}
int openat(int at, const char *path, int flags, ...) {
    MODE;
    return fails_on(OPENING, at, path) ? -1 : OTHER(openat)(at, path, flags, mode);
}
int openat64(int at, const char *path, int flags, ...) {
    MODE;
    return fails_on(OPENING, at, path) ? -1 : OTHER(openat64)(at, path, flags, mode);
}
BY_NAME(LOOKS, DIR *, NULL, opendir, (const char *path), path, path)
BY_NAME(LOOKS, int, -1, stat, (const char *path, struct stat *to), path, path, to)
BY_NAME(LOOKS, int, -1, stat64, (const char *path, struct stat64 *to), path, path, to)
BY_NAME(LOOKS, int, -1, lstat64, (const char *path, struct stat64 *to), path, path, to)
BY_FILE(LOOKS, int, fstatat64, (int at, const char *path, struct stat64 *to, int flags), at, path, at, path,
        to, flags)
BY_FILE(READS, ssize_t, read, (int file, void *to, size_t size), file, NULL, file, to, size)
BY_FILE(READS, ssize_t, pread64, (int file, void *to, size_t size, off64_t at), file, NULL, file, to, size, at)

BY_NAME(CHANGES, int, -1, mkdir, (const char *path, mode_t mode), path, path, mode)
BY_NAME(CHANGES, int, -1, rmdir, (const char *path), path, path)
BY_NAME(CHANGES, int, -1, unlink, (const char *path), path, path)
BY_NAME(CHANGES, int, -1, rename, (const char *from, const char *to), to, from, to)
BY_NAME(CHANGES, int, -1, link, (const char *from, const char *to), to, from, to)
BY_NAME(CHANGES, int, -1, chmod, (const char *path, mode_t mode), path, path, mode)
BY_FILE(CHANGES, int, unlinkat, (int at, const char *path, int flags), at, path, at, path, flags)
BY_FILE(CHANGES, int, linkat, (int from, const char *old, int at, const char *path, int flags), at, path,
        from, old, at, path, flags)
BY_FILE(CHANGES, int, renameat, (int from, const char *old, int at, const char *path), at, path, from, old, at,
        path)
BY_FILE(CHANGES, int, fchmodat, (int at, const char *path, mode_t mode, int flags), at, path, at, path, mode,
        flags)
BY_FILE(CHANGES, int, utimensat, (int at, const char *path, const struct timespec to[2], int flags), at, path,
        at, path, to, flags)

BY_FILE(WRITES, ssize_t, write, (int file, const void *from, size_t size), file, NULL, file, from, size)
BY_FILE(WRITES, ssize_t, writev, (int file, const struct iovec *from, int number), file, NULL, file, from,
        number)
BY_FILE(WRITES, ssize_t, pwrite64, (int file, const void *from, size_t size, off64_t at), file, NULL, file,
        from, size, at)
BY_FILE(WRITES, int, ftruncate64, (int file, off64_t size), file, NULL, file, size)
BY_FILE(WRITES, int, fsync, (int file), file, NULL, file)
