/* Loaded into the LXD that up.sh starts (see lib/mounts.sh).
 *
 * Whether a file system's mounts can be idmapped LXD 5.0 finds out by trying it, with a user namespace
 * that it opens from a child, which it then kills, and in which it has mapped nobody. Kernels since 6.9
 * refuse a mapping without anybody ("mnt_idmapping: Return -EINVAL when no map is written"). So here the
 * child gets a map before it is killed. A process that has one, as every other has, is refused another
 * by the kernel, so this changes nothing for it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char EVERYBODY[] = "0 100000 65536\n";

static void map(pid_t process, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", process, name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return;
    /* Refused where there is one. */
    ssize_t written = write(file, EVERYBODY, sizeof EVERYBODY - 1);
    (void)written;
    close(file);
}

/* What LXD starts has no need of it, and inside of a container it is not there. */
__attribute__((constructor)) static void for_this_process_alone(void)
{
    unsetenv("LD_PRELOAD");
}

int kill(pid_t process, int number)
{
    if (number == SIGKILL && process > 0) {
        map(process, "uid_map");
        map(process, "gid_map");
    }
    return (int)syscall(SYS_kill, process, number);
}
