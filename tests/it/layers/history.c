/* Lists a directory with all metadata that layers keep, and sets extended attributes, which busybox cannot do. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static struct { dev_t dev; ino_t ino; char name[4096]; } seen[512];
static int count;

static const char *first_name(const struct stat *st, const char *name)
{
    for (int i = 0; i < count; i++)
        if (seen[i].dev == st->st_dev && seen[i].ino == st->st_ino)
            return seen[i].name;
    if (count == 512)
        exit(9);
    seen[count].dev = st->st_dev;
    seen[count].ino = st->st_ino;
    snprintf(seen[count].name, sizeof seen[count].name, "%s", name);
    return seen[count++].name;
}

static uint64_t content(const char *path)
{
    static unsigned char buffer[1 << 16];
    uint64_t hash = 0xcbf29ce484222325u;
    int fd = open(path, O_RDONLY | O_NOFOLLOW);
    ssize_t n;
    if (fd < 0)
        exit(8);
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < n; i++)
            hash = (hash ^ buffer[i]) * 0x100000001b3u;
    close(fd);
    return hash;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void attributes(const char *path)
{
    char names[4096], *sorted[64];
    unsigned char value[4096];
    ssize_t length = llistxattr(path, names, sizeof names);
    int n = 0;
    for (char *name = names; length > 0 && name < names + length && n < 64; name += strlen(name) + 1)
        if (strcmp(name, "security.selinux") && !strstr(name, "overlay."))
            sorted[n++] = name;
    qsort(sorted, n, sizeof *sorted, compare);
    for (int i = 0; i < n; i++) {
        ssize_t size = lgetxattr(path, sorted[i], value, sizeof value);
        printf(" %s=", sorted[i]);
        for (ssize_t at = 0; at < size; at++)
            printf("%02x", value[at]);
    }
}

static void list(const char *path)
{
    struct stat st;
    char target[256];
    if (lstat(path, &st))
        exit(7);
    printf("%s %o %u:%u @%lld", path, st.st_mode, st.st_uid, st.st_gid, (long long)st.st_mtime);
    /* Size and link count of a directory depend on the file system. */
    if (!S_ISDIR(st.st_mode))
        printf(" size=%lld links=%d %s", (long long)st.st_size, (int)st.st_nlink, first_name(&st, path));
    if (S_ISLNK(st.st_mode)) {
        ssize_t size = readlink(path, target, sizeof target - 1);
        target[size < 0 ? 0 : size] = 0;
        printf(" -> %s", target);
    }
    if (S_ISREG(st.st_mode))
        printf(" %016llx", (unsigned long long)content(path));
    attributes(path);
    printf("\n");
    if (S_ISDIR(st.st_mode)) {
        struct dirent **found;
        int n = scandir(path, &found, NULL, alphasort);
        for (int i = 0; i < n; i++) {
            char below[4096];
            if (!strcmp(found[i]->d_name, ".") || !strcmp(found[i]->d_name, ".."))
                continue;
            snprintf(below, sizeof below, "%s/%s", path, found[i]->d_name);
            list(below);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "list")) {
        if (chdir(argv[2]))
            return 6;
        list(".");
        return 0;
    }
    if (argc == 5 && !strcmp(argv[1], "set")) {
        unsigned char value[256];
        size_t size = strlen(argv[4]) / 2;
        for (size_t i = 0; i < size && i < sizeof value; i++)
            sscanf(argv[4] + 2 * i, "%2hhx", &value[i]);
        return lsetxattr(argv[2], argv[3], value, size, 0) ? 1 : 0;
    }
    if (argc == 4 && !strcmp(argv[1], "unset"))
        return lremovexattr(argv[2], argv[3]) ? 1 : 0;
    return 5;
}
