/* Preloaded into a process under test: notes how much of a SQLite write-ahead log has really been flushed.
 * For each `X-wal` it keeps the length at the last fsync in `X-wal.synced`; what lies beyond may be lost with the power. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int wal(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 4) return 0;
    path[length] = 0;
    return strcmp(path + length - 4, "-wal") == 0;
}

static void note(int fd, off_t length) {
    char path[4096], file[4200], text[32];
    if (!wal(fd, path, sizeof path)) return;
    snprintf(file, sizeof file, "%s.synced", path);
    /* Always as long, in one write: a kill leaves the old number or the new one. */
    int out = open(file, O_WRONLY | O_CREAT, 0600);
    if (out < 0) return;
    int size = snprintf(text, sizeof text, "%020lld\n", (long long)length);
    if (write(out, text, size) != size) unlink(file);
    close(out);
}

static void synced(int fd) {
    struct stat about;
    if (fstat(fd, &about) == 0) note(fd, about.st_size);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    int result = real(fd);
    if (result == 0) synced(fd);
    return result;
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    int result = real(fd);
    if (result == 0) synced(fd);
    return result;
}

/* A log that begins anew has nothing flushed yet. */
ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    if (offset == 0) note(fd, 0);
    return real(fd, bytes, count, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    return pwrite64(fd, bytes, count, offset);
}
