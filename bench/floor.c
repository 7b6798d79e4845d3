/* What the kernel alone charges for a container: the cost below which no engine
 * can go. Each line of the output is one way to run `true` to its end:
 *
 *     NAME <tab> median in microseconds
 *
 * Usage (root): floor ROUNDS ROOT        ROOT holds a static /bin/busybox
 * Build:        cc -O2 -static -o floor floor.c
 *
 * The steps pile up, so the difference of two lines is the price of a step. The
 * rounds go through all lines in turn, so that a busy moment hits them alike. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ROUNDS = 1000 };
enum depth { PLAIN, ROOTED, FURNISHED };

static const struct step {
	const char *name;
	enum depth depth;
	uint64_t namespaces;
} steps[] = {
	{ "fork and exec", PLAIN, 0 },
	{ "namespaces and overlay root", ROOTED,
	  CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP },
	{ "the same with /proc, /dev, /sys", FURNISHED,
	  CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP },
	{ "the same with a network namespace", FURNISHED,
	  CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNET },
};
enum { STEPS = sizeof steps / sizeof *steps };

static const char *root;
static char upper[64], work[64], merged[64];

static void must(int result, const char *what)
{
	if (result < 0) {
		perror(what);
		_exit(99);
	}
}

static void furnish(void)
{
	unsigned long quiet = MS_NOSUID | MS_NOEXEC;
	must(mount("proc", "proc", "proc", quiet | MS_NODEV, NULL), "proc");
	must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=64m"), "dev");
	must(mkdir("dev/pts", 0755), "dev/pts");
	must(mkdir("dev/shm", 0755), "dev/shm");
	must(mkdir("dev/mqueue", 0755), "dev/mqueue");
	must(mount("devpts", "dev/pts", "devpts", quiet, "newinstance,ptmxmode=0666"), "devpts");
	must(mount("shm", "dev/shm", "tmpfs", quiet | MS_NODEV, "mode=1777,size=64m"), "shm");
	must(mount("mqueue", "dev/mqueue", "mqueue", quiet | MS_NODEV, NULL), "mqueue");
	must(mount("sysfs", "sys", "sysfs", quiet | MS_NODEV | MS_RDONLY, NULL), "sysfs");
	static const char *const devices[] = { "null", "zero", "full", "random", "urandom" };
	static const int minors[] = { 3, 5, 7, 8, 9 };
	for (int i = 0; i < 5; i++) {
		char path[32];
		snprintf(path, sizeof path, "dev/%s", devices[i]);
		must(mknod(path, S_IFCHR | 0666, makedev(1, minors[i])), path);
	}
}

static void become(enum depth depth)
{
	char program[512];
	snprintf(program, sizeof program, "%s/bin/busybox", depth == PLAIN ? root : "");
	if (depth != PLAIN) {
		char options[1024];
		snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", root, upper, work);
		must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
		must(mount("overlay", merged, "overlay", 0, options), "overlay");
		must(chdir(merged), "chdir");
		if (depth == FURNISHED)
			furnish();
		must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
		must(umount2(".", MNT_DETACH), "umount");
	}
	execl(program, "true", (char *)NULL);
	must(-1, program);
}

static double run(const struct step *step)
{
	struct clone_args args = { .flags = step->namespaces, .exit_signal = SIGCHLD };
	struct timespec from, to;
	int status;
	clock_gettime(CLOCK_MONOTONIC, &from);
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	must(pid, "clone3");
	if (pid == 0)
		become(step->depth);
	must(waitpid(pid, &status, 0), "waitpid");
	clock_gettime(CLOCK_MONOTONIC, &to);
	if (status != 0) {
		fprintf(stderr, "floor: %s: status %#x\n", step->name, status);
		exit(1);
	}
	return (to.tv_sec - from.tv_sec) * 1e6 + (to.tv_nsec - from.tv_nsec) / 1e3;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	static double samples[STEPS][MAX_ROUNDS];
	int rounds = argc == 3 ? atoi(argv[1]) : 0;
	if (rounds < 1 || rounds > MAX_ROUNDS) {
		fprintf(stderr, "usage: floor ROUNDS(1..%d) ROOT\n", MAX_ROUNDS);
		return 2;
	}
	root = argv[2];
	char room[] = "/tmp/floor.XXXXXX";
	if (!mkdtemp(room)) {
		perror(room);
		return 1;
	}
	snprintf(upper, sizeof upper, "%s/upper", room);
	snprintf(work, sizeof work, "%s/work", room);
	snprintf(merged, sizeof merged, "%s/merged", room);
	must(mkdir(upper, 0755), upper);
	must(mkdir(work, 0755), work);
	must(mkdir(merged, 0755), merged);
	for (int round = -1; round < rounds; round++) /* the first one warms up */
		for (int s = 0; s < STEPS; s++) {
			double us = run(&steps[s]);
			if (round >= 0)
				samples[s][round] = us;
		}
	for (int s = 0; s < STEPS; s++) {
		qsort(samples[s], rounds, sizeof(double), ascending);
		printf("%s\t%.0f\n", steps[s].name, samples[s][rounds / 2]);
	}
	char inner[80];
	snprintf(inner, sizeof inner, "%s/work", work); /* overlay's own */
	rmdir(inner);
	rmdir(work);
	rmdir(upper);
	rmdir(merged);
	if (rmdir(room) < 0)
		fprintf(stderr, "floor: %s stays: %s\n", room, strerror(errno));
	return 0;
}
