/* The measure of what AF_XDP itself costs: receives on queue 0 of an interface
 * and drops, or sends back with the Ethernet addresses swapped.
 *
 *   xsk IFACE drop|send [generic] [busy USECS:BUDGET] [linger USECS]
 *
 * On libxdp's rings, in copy mode with need_wakeup, sleeping in poll() when
 * nothing has come for the time to linger (0). The XDP program is the shortest there can be, so that nothing
 * but the rings is compared. Prints what it did when SIGTERM comes.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <xdp/xsk.h>

#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif
/* Linux 6.17: how many frames one sendto() takes in copy mode, 32 otherwise. */
#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9
#endif

enum { FRAMES = 8192, FRAME_LEN = 2048, RING = 2048, BURST = 64, MOST_KICKS = 64,
       MOST_TRIES = 200 };

static volatile sig_atomic_t stopped;

static struct {
	struct xsk_ring_prod fill, tx;
	struct xsk_ring_cons rx, done;
	struct xsk_umem *umem;
	struct xsk_socket *socket;
	char *memory;
	__u64 unused[FRAMES]; /* frames in no ring, by address */
	unsigned unused_len;
	int fd, busy;
	double linger_s;
	unsigned long received, sent, refused;
} s;

static void fail(const char *what, int error)
{
	fprintf(stderr, "xsk: %s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(1);
}

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

/* The program is attached by a link, which ends with the process. */
static void attach(int ifindex, int generic)
{
	int map = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "xsks", 4, 4, 1, NULL);
	if (map < 0)
		fail("cannot make the map", errno);
	struct bpf_insn program[] = {
		/* r2 = ctx->rx_queue_index */
		{ .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1,
		  .off = offsetof(struct xdp_md, rx_queue_index) },
		/* r1 = map */
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1,
		  .src_reg = BPF_PSEUDO_MAP_FD, .imm = map },
		{ 0 },
		/* return bpf_redirect_map(r1, r2, XDP_PASS) */
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int loaded = bpf_prog_load(BPF_PROG_TYPE_XDP, "redirect", "GPL", program,
				   sizeof program / sizeof *program, NULL);
	if (loaded < 0)
		fail("cannot load the program", errno);
	if (bpf_map_update_elem(map, &(int){ 0 }, &s.fd, 0))
		fail("cannot set the map", errno);
	LIBBPF_OPTS(bpf_link_create_opts, how,
		    .flags = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE);
	if (bpf_link_create(loaded, ifindex, BPF_XDP, &how) < 0)
		fail("cannot attach the program", errno);
}

static void open_socket(const char *interface)
{
	size_t len = (size_t)FRAMES * FRAME_LEN;
	s.memory = mmap(NULL, len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (s.memory == MAP_FAILED)
		fail("cannot map memory", errno);
	struct xsk_umem_config of_umem = {
		.fill_size = RING, .comp_size = RING, .frame_size = FRAME_LEN,
	};
	int error = xsk_umem__create(&s.umem, s.memory, len, &s.fill, &s.done, &of_umem);
	if (error)
		fail("cannot make the UMEM", error);
	struct xsk_socket_config of_socket = {
		.rx_size = RING, .tx_size = RING,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = XDP_COPY | XDP_USE_NEED_WAKEUP,
	};
	/* The kernel releases the queue of a process that has ended a little late. */
	for (int i = 0; i < MOST_TRIES; i++) {
		error = xsk_socket__create(&s.socket, interface, 0, s.umem, &s.rx, &s.tx,
					   &of_socket);
		if (error != -EBUSY)
			break;
		usleep(10000);
	}
	if (error)
		fail("cannot make the socket", error);
	s.fd = xsk_socket__fd(s.socket);
	/* Refused by older kernels, which do without. */
	setsockopt(s.fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &(int){ RING }, sizeof(int));
}

static void set_busy(const char *option)
{
	int usecs, budget;
	if (sscanf(option, "%d:%d", &usecs, &budget) != 2)
		fail(option, EINVAL);
	if (setsockopt(s.fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, &(int){ 1 }, sizeof(int)) ||
	    setsockopt(s.fd, SOL_SOCKET, SO_BUSY_POLL, &usecs, sizeof usecs) ||
	    setsockopt(s.fd, SOL_SOCKET, SO_BUSY_POLL_BUDGET, &budget, sizeof budget))
		fail("cannot poll busily", errno);
	s.busy = 1;
}

static void refill(void)
{
	__u32 at, room = xsk_prod_nb_free(&s.fill, s.unused_len);
	__u32 n = room < s.unused_len ? room : s.unused_len;
	if (!n || !xsk_ring_prod__reserve(&s.fill, n, &at))
		return;
	for (__u32 i = 0; i < n; i++)
		*xsk_ring_prod__fill_addr(&s.fill, at + i) = s.unused[--s.unused_len];
	xsk_ring_prod__submit(&s.fill, n);
}

static void reclaim(void)
{
	__u32 at, n = xsk_ring_cons__peek(&s.done, RING, &at);
	for (__u32 i = 0; i < n; i++)
		s.unused[s.unused_len++] = *xsk_ring_cons__comp_addr(&s.done, at + i);
	if (n)
		xsk_ring_cons__release(&s.done, n);
}

/* A call takes a bounded number of frames and says EAGAIN if there are more. */
static void kick(void)
{
	for (int i = 0; i < MOST_KICKS && xsk_ring_prod__needs_wakeup(&s.tx); i++)
		if (sendto(s.fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0 || errno != EAGAIN)
			return;
}

static void swap_addresses(char *frame)
{
	char source[ETH_ALEN];
	memcpy(source, frame + ETH_ALEN, ETH_ALEN);
	memcpy(frame + ETH_ALEN, frame, ETH_ALEN);
	memcpy(frame, source, ETH_ALEN);
}

static __u32 burst(int send)
{
	__u32 from, to = 0, n = xsk_ring_cons__peek(&s.rx, BURST, &from), room = 0;
	if (!n)
		return 0;
	if (send) {
		room = xsk_prod_nb_free(&s.tx, n);
		room = room < n ? room : n;
		xsk_ring_prod__reserve(&s.tx, room, &to);
	}
	for (__u32 i = 0; i < n; i++) {
		const struct xdp_desc *frame = xsk_ring_cons__rx_desc(&s.rx, from + i);
		if (i >= room) {
			s.unused[s.unused_len++] = frame->addr & ~(__u64)(FRAME_LEN - 1);
			continue;
		}
		swap_addresses(xsk_umem__get_data(s.memory, frame->addr));
		*xsk_ring_prod__tx_desc(&s.tx, to + i) = *frame;
	}
	xsk_ring_cons__release(&s.rx, n);
	s.received += n;
	if (room) {
		xsk_ring_prod__submit(&s.tx, room);
		s.sent += room;
		kick();
	}
	s.refused += send ? n - room : 0;
	return n;
}

static void wait_for_frames(void)
{
	if (s.busy)
		recvfrom(s.fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
	else
		poll(&(struct pollfd){ .fd = s.fd, .events = POLLIN }, 1, -1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void serve(int send)
{
	double last = 0;
	int idle = 0;
	while (!stopped) {
		reclaim();
		__u32 n = burst(send);
		refill();
		if (n) {
			idle = 0;
		} else if (!idle && s.linger_s) {
			idle = 1;
			last = now();
		} else if (!idle || now() > last + s.linger_s) {
			wait_for_frames();
		}
	}
}

int main(int argc, char **argv)
{
	int generic = 0;
	const char *busy = NULL;
	if (argc < 3 || (strcmp(argv[2], "drop") && strcmp(argv[2], "send"))) {
		fprintf(stderr, "usage: xsk IFACE drop|send [generic] [busy USECS:BUDGET] "
				"[linger USECS]\n");
		return 2;
	}
	for (int i = 3; i < argc; i++) {
		if (!strcmp(argv[i], "generic"))
			generic = 1;
		else if (!strcmp(argv[i], "busy") && i + 1 < argc)
			busy = argv[++i];
		else if (!strcmp(argv[i], "linger") && i + 1 < argc)
			s.linger_s = atof(argv[++i]) * 1e-6;
		else
			fail(argv[i], EINVAL);
	}
	int ifindex = if_nametoindex(argv[1]);
	if (!ifindex)
		fail(argv[1], errno);
	/* Without SA_RESTART: poll() must come back. */
	sigaction(SIGTERM, &(struct sigaction){ .sa_handler = stop }, NULL);
	sigaction(SIGINT, &(struct sigaction){ .sa_handler = stop }, NULL);
	open_socket(argv[1]);
	if (busy)
		set_busy(busy);
	for (unsigned i = 0; i < FRAMES; i++)
		s.unused[s.unused_len++] = (__u64)i * FRAME_LEN;
	refill();
	attach(ifindex, generic);
	printf("listening on %s\n", argv[1]);
	fflush(stdout);
	serve(!strcmp(argv[2], "send"));
	printf("received %lu\nsent %lu\nrefused %lu\n", s.received, s.sent, s.refused);
	xsk_socket__delete(s.socket);
	xsk_umem__delete(s.umem);
	return 0;
}
