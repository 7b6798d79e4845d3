// Both ends of the network measurements: a server that answers a connection
// with a flood of bytes or closes it at once, and a caller that counts.
//
//     traffic serve PORT                 PORT floods, PORT+1 accepts and closes
//     traffic pull ADDRESS PORT SECONDS  prints Gbit/s
//     traffic call ADDRESS PORT SECONDS  prints connections per second
//
// IPv4 only, one thread per connection in the server.
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char block[1 << 17];

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static struct sockaddr_in at(const char *address, int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	if (inet_pton(AF_INET, address, &to.sin_addr) != 1) {
		fprintf(stderr, "%s is no IPv4 address\n", address);
		exit(2);
	}
	return to;
}

static int listener(int port)
{
	int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in own = at("0.0.0.0", port);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&own, sizeof own) || listen(fd, 4096)) {
		perror("listen");
		exit(1);
	}
	return fd;
}

static void *flood(void *arg)
{
	int fd = (int)(long)arg;
	while (write(fd, block, sizeof block) > 0)
		;
	close(fd);
	return NULL;
}

static void *accept_and_close(void *arg)
{
	for (;;)
		close(accept((int)(long)arg, NULL, NULL));
}

static int dial(struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)to, sizeof *to)) {
		perror("connect");
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(argv[1], "serve")) {
		int fd = listener(atoi(argv[2]));
		pthread_create(&thread, NULL, accept_and_close, (void *)(long)listener(atoi(argv[2]) + 1));
		for (;;) {
			pthread_create(&thread, NULL, flood, (void *)(long)accept(fd, NULL, NULL));
			pthread_detach(thread);
		}
	}
	if (argc != 5)
		return 2;
	struct sockaddr_in to = at(argv[2], atoi(argv[3]));
	double start = now(), end = start + atof(argv[4]), count = 0;
	if (!strcmp(argv[1], "pull")) {
		int fd = dial(&to);
		while (now() < end) {
			ssize_t n = read(fd, block, sizeof block);
			if (n <= 0)
				return 1;
			count += n;
		}
		printf("%.2f\n", count * 8 / (now() - start) / 1e9);
	} else {
		struct linger hard = {.l_onoff = 1};
		for (; now() < end; count++) {
			int fd = dial(&to);
			// No TIME_WAIT: the ports of the caller would run out.
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
			close(fd);
		}
		printf("%.0f\n", count / (now() - start));
	}
	return 0;
}
