/* The program of sandbox tests inside a command: tries one system call or escape and prints the result in one line. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static int told(long answer)
{
	printf("%s\n", answer < 0 ? strerrorname_np(errno) : "ok");
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	const char *arg = argc > 2 ? argv[2] : "";
	if (!strcmp(what, "syscalls")) {
		for (int i = 2; i < argc; i++) {
			/* A bad pointer for every argument: calls that pass the filter fail with another error than EPERM. */
			long answer = syscall(atol(argv[i]), -1L, -1L, -1L, -1L, -1L, -1L);
			printf("%s %s\n", argv[i], answer < 0 ? strerrorname_np(errno) : "ok");
		}
		return 0;
	}
	if (!strcmp(what, "clone"))
		return told(syscall(SYS_clone, strtoul(arg, NULL, 0) | SIGCHLD, 0, 0, 0, 0));
	if (!strcmp(what, "keyring")) /* the id of the session keyring */
		return printf("%ld\n", syscall(SYS_keyctl, 0L, -3L, 0L)) < 0;
	if (!strcmp(what, "key")) /* is there a key of this name? */
		return told(syscall(SYS_request_key, "user", arg, NULL, -3L));
	if (!strcmp(what, "tiocsti"))
		return told(ioctl(0, TIOCSTI, "x"));
	if (!strcmp(what, "umask"))
		return printf("%04o\n", umask(0)) < 0;
	if (!strcmp(what, "write")) /* open for writing, content untouched */
		return told(open(arg, O_WRONLY | O_APPEND));
	if (!strcmp(what, "abstract")) {
		struct sockaddr_un to = { .sun_family = AF_UNIX };
		size_t n = strlen(arg);
		memcpy(to.sun_path + 1, arg, n);
		int s = socket(AF_UNIX, SOCK_STREAM, 0);
		return told(connect(s, (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + 1 + n));
	}
	if (!strcmp(what, "connect")) {
		struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(arg)) };
		inet_aton("127.0.0.1", &to.sin_addr);
		int s = socket(AF_INET, SOCK_STREAM, 0);
		return told(connect(s, (struct sockaddr *)&to, sizeof to));
	}
	if (!strcmp(what, "loopback")) { /* listens on loopback and connects to itself */
		struct sockaddr_in at = { .sin_family = AF_INET };
		socklen_t n = sizeof at;
		inet_aton("127.0.0.1", &at.sin_addr);
		int l = socket(AF_INET, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0);
		if (bind(l, (struct sockaddr *)&at, n) || listen(l, 1) || getsockname(l, (struct sockaddr *)&at, &n))
			return told(-1);
		return told(connect(s, (struct sockaddr *)&at, n));
	}
	if (!strcmp(what, "serve")) { /* answers one connection to 127.0.0.1 */
		struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(atoi(arg)) };
		char line[100];
		inet_aton("127.0.0.1", &at.sin_addr);
		int l = socket(AF_INET, SOCK_STREAM, 0);
		if (bind(l, (struct sockaddr *)&at, sizeof at) || listen(l, 1))
			return told(-1);
		int s = accept(l, NULL, NULL);
		ssize_t n = read(s, line, sizeof line);
		return n < 0 || write(s, "got ", 4) < 0 || write(s, line, n) < 0;
	}
	if (!strcmp(what, "swap")) { /* exchanges two names until it is killed */
		for (const char *other = argc > 3 ? argv[3] : "";;)
			if (syscall(SYS_renameat2, AT_FDCWD, arg, AT_FDCWD, other, 2))
				return told(-1);
	}
	if (!strcmp(what, "agent") || !strcmp(what, "talk")) { /* the types of the ssh agent's answers to the given types */
		struct sockaddr_un to = { .sun_family = AF_UNIX };
		const char *path = getenv("SSH_AUTH_SOCK");
		int s = socket(AF_UNIX, SOCK_STREAM, 0);
		strncpy(to.sun_path, path ? path : "", sizeof to.sun_path - 1);
		if (connect(s, (struct sockaddr *)&to, sizeof to))
			return told(-1);
		for (int i = 2; i < argc; i++) {
			unsigned char ask[5] = { 0, 0, 0, 1, atoi(argv[i]) }, answer[4096];
			if (write(s, ask, 5) != 5 || read(s, answer, sizeof answer) < 5)
				return told(-1);
			printf("%s -> %d\n", argv[i], answer[4]);
		}
		if (!strcmp(what, "talk")) /* and keeps the connection open */
			pause();
		return 0;
	}
	if (!strcmp(what, "setuid")) { /* the ids and capabilities of a set-uid program */
		char line[200];
		printf("%d %d\n", getuid(), geteuid());
		if (*arg)
			told(open(arg, O_RDONLY));
		for (FILE *status = fopen("/proc/self/status", "r"); status && fgets(line, sizeof line, status);)
			if (!strncmp(line, "CapEff", 6))
				printf("%s", line);
		return 0;
	}
	if (!strcmp(what, "setcap")) { /* gives a file CAP_NET_RAW */
		unsigned char value[20] = { 1, 0, 0, 2, 0, 0x20 };
		return told(setxattr(arg, "security.capability", value, sizeof value, 0));
	}
	if (!strcmp(what, "setattr") && argc == 5) { /* gives a file an attribute, its value in hexadecimal */
		unsigned char value[256];
		size_t size = strlen(argv[4]) / 2;
		for (size_t i = 0; i < size && i < sizeof value; i++)
			sscanf(argv[4] + 2 * i, "%2hhx", &value[i]);
		return told(lsetxattr(arg, argv[3], value, size, 0));
	}
	if (!strcmp(what, "attrs")) { /* modes and extended attributes of files, without labels of the host */
		for (int i = 2; i < argc; i++) {
			struct stat stat;
			char names[4096];
			unsigned char value[256];
			ssize_t length = llistxattr(argv[i], names, sizeof names);
			printf("%s %o", argv[i], lstat(argv[i], &stat) ? 0 : stat.st_mode);
			for (char *name = names; length > 0 && name < names + length; name += strlen(name) + 1) {
				if (!strncmp(name, "security.", 9))
					continue;
				printf(" %s=", name);
				ssize_t size = lgetxattr(argv[i], name, value, sizeof value);
				for (ssize_t at = 0; at < size; at++)
					printf("%02x", value[at]);
			}
			printf("\n");
		}
		return 0;
	}
	if (!strcmp(what, "socket")) { /* creates a socket */
		struct sockaddr_un address = { AF_UNIX, "" };
		strncpy(address.sun_path, arg, sizeof address.sun_path - 1);
		return told(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address));
	}
	fprintf(stderr, "unknown probe %s\n", what);
	return 2;
}
