/* Sends minimum frames as fast as it can for so many seconds:
 *
 *   blast IFACE DST_MAC packet|xdp SECONDS
 *
 * UDP from 10.0.0.1 to port 9 of 10.0.0.2, 60 bytes each. `packet` sends them
 * through a packet socket, as skbs; `xdp` through the kernel's test runs of an
 * XDP program that redirects every frame to the interface, without skbs. The
 * latter reaches a veth only while its other end has NAPI, that is with an XDP
 * program in driver mode, or with GRO.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef BPF_F_TEST_XDP_LIVE_FRAMES
#define BPF_F_TEST_XDP_LIVE_FRAMES (1U << 1)
#endif

enum { FRAME_LEN = 60, BURST = 64, MOST_SECONDS = 60 };

/* Frames of one test run: enough that its own start and end do not count. */
enum { PER_RUN = 1 << 18 };

static char frame[FRAME_LEN];

static void fail(const char *what, int error)
{
	fprintf(stderr, "blast: %s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static __u16 checksum(const void *from, size_t len)
{
	const __u16 *words = from;
	__u32 sum = 0;
	for (size_t i = 0; i < len / 2; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

static void make_frame(const char *to)
{
	/* The kernel throws what is sent back to somebody else away at once. */
	const unsigned char nobody[ETH_ALEN] = { 2, 0, 0, 0, 0, 1 };
	struct ether_header *ethernet = (void *)frame;
	struct iphdr *ip = (void *)(ethernet + 1);
	struct udphdr *udp = (void *)(ip + 1);
	struct ether_addr *mac = ether_aton(to);
	if (!mac)
		fail(to, EINVAL);
	memcpy(ethernet->ether_dhost, mac, ETH_ALEN);
	memcpy(ethernet->ether_shost, nobody, ETH_ALEN);
	ethernet->ether_type = htons(ETHERTYPE_IP);
	size_t len = FRAME_LEN - sizeof *ethernet;
	*ip = (struct iphdr){
		.version = 4, .ihl = 5, .tot_len = htons(len), .ttl = 64, .protocol = IPPROTO_UDP,
		.frag_off = htons(IP_DF),
		.saddr = inet_addr("10.0.0.1"), .daddr = inet_addr("10.0.0.2"),
	};
	ip->check = checksum(ip, sizeof *ip);
	/* A checksum of 0: none (RFC 768). */
	udp->source = htons(40000);
	udp->dest = htons(9);
	udp->len = htons(len - sizeof *ip);
}

static void check(int done)
{
	/* A full queue is what a sender without bounds meets. */
	if (done < 0 && errno != EAGAIN && errno != ENOBUFS && errno != EINTR)
		fail("cannot send", errno);
}

static void report(unsigned long offered, double seconds)
{
	printf("offered %lu\nseconds %.6f\n", offered, seconds);
}

static void by_packet_socket(int ifindex, double seconds)
{
	struct mmsghdr messages[BURST] = { 0 };
	struct iovec frames[BURST];
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_ifindex = ifindex };
	/* Protocol 0: it receives nothing. */
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (fd < 0 || bind(fd, (void *)&at, sizeof at) ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &(int){ 1 }, sizeof(int)))
		fail("cannot open a packet socket", errno);
	for (int i = 0; i < BURST; i++) {
		frames[i] = (struct iovec){ frame, FRAME_LEN };
		messages[i].msg_hdr.msg_iov = &frames[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	unsigned long sent = 0;
	double start = now();
	while (now() < start + seconds) {
		int done = sendmmsg(fd, messages, BURST, 0);
		check(done);
		sent += done > 0 ? done : 0;
	}
	report(sent, now() - start);
}

static void by_xdp(int ifindex, double seconds)
{
	struct bpf_insn program[] = {
		/* return bpf_redirect(ifindex, 0) */
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 1, .imm = ifindex },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int loaded = bpf_prog_load(BPF_PROG_TYPE_XDP, "blast", "GPL", program,
				   sizeof program / sizeof *program, NULL);
	if (loaded < 0)
		fail("cannot load the program", errno);
	unsigned long sent = 0;
	double start = now();
	while (now() < start + seconds) {
		LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = FRAME_LEN,
			    .repeat = PER_RUN, .batch_size = BURST,
			    .flags = BPF_F_TEST_XDP_LIVE_FRAMES);
		int error = bpf_prog_test_run_opts(loaded, &run);
		check(error);
		sent += error ? 0 : PER_RUN;
	}
	report(sent, now() - start);
}

int main(int argc, char **argv)
{
	double seconds = argc == 5 ? atof(argv[4]) : 0;
	if (seconds <= 0 || seconds > MOST_SECONDS) {
		fprintf(stderr, "usage: blast IFACE DST_MAC packet|xdp SECONDS (at most %d)\n",
			MOST_SECONDS);
		return 2;
	}
	int ifindex = if_nametoindex(argv[1]);
	if (!ifindex)
		fail(argv[1], errno);
	make_frame(argv[2]);
	if (!strcmp(argv[3], "packet"))
		by_packet_socket(ifindex, seconds);
	else
		by_xdp(ifindex, seconds);
	return 0;
}
