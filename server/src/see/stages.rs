//! What happens at each of the fourteen stages of the path, told to people:
//! here, in Linux, in Go, and what is often said wrongly of it.
//!
//! The page's guided mode and `wirepath explain` show these texts, so that both
//! say the same. They are plain text. Each names the files and functions that it
//! was read from, of Linux by their names alone, since their files move: Go 1.22
//! and later, Linux 6.1 and later.
//!
//! Numbers and names are those of the trace's first fourteen kinds of events; a
//! test holds them to that. [`WALK`] is the order in which a request meets the
//! stages, which is not that of the numbers: the handler, 14, lies between the
//! read and the write.

use serde::Serialize;

/// A stage of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Its number in the architecture's picture, from 1.
    pub number: u8,
    /// Its name in traces: `nic.rx`.
    pub name: &'static str,
    /// What happens, in a few words: a heading.
    pub title: &'static str,
    /// What happens here, in Wirepath.
    pub here: &'static str,
    /// Where that is in Wirepath's source.
    pub here_at: &'static str,
    /// What Linux does at this point for a server with a kernel socket.
    pub linux: &'static str,
    /// Functions of Linux that do it, in the order of their calls.
    pub linux_at: &'static [&'static str],
    /// What Go's runtime or library does at this point.
    pub go: &'static str,
    /// Functions of Go that do it, with their files.
    pub go_at: &'static [&'static str],
    /// What is often said of it, and is not so.
    pub corrections: &'static [Correction],
}

/// A common explanation, and what is right instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Correction {
    /// What is often said.
    pub said: &'static str,
    /// What is so.
    pub right: &'static str,
}

/// The numbers of the stages in the order in which a request meets them.
pub const WALK: [u8; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 14, 9, 10, 11, 12, 13];

/// The stage of a number from 1 to 14.
pub fn by_number(number: u8) -> Option<&'static Stage> {
    STAGES.get(usize::from(number).checked_sub(1)?)
}

/// The stage of a name, as `nic.rx`.
pub fn by_name(name: &str) -> Option<&'static Stage> {
    STAGES.iter().find(|stage| stage.name == name)
}

/// The stages, by number.
pub static STAGES: [Stage; 14] = [
    Stage {
        number: 1,
        name: "nic.rx",
        title: "A frame is in the RX ring",
        here: "The device has put a frame into memory that this process owns, and its \
               descriptor into the receive ring. With AF_XDP the ring is shared with the \
               kernel and a filter program chose the frame by its address and port; a TAP is \
               a descriptor that gives one frame to each read(2), so a frame that waits there \
               cannot be seen, and the trace says so instead of guessing a time. If the pool \
               has no free frame the device has nowhere to write: that is a drop, and it is \
               counted.",
        here_at: "driver/src/ring.rs, driver/src/xdp/queue.rs, driver/src/tap/mod.rs",
        linux: "The card writes the frame by DMA into a buffer that the driver posted earlier, \
                marks the descriptor as done and raises an interrupt. The handler does almost \
                nothing: it masks the queue's interrupt and schedules NAPI. RSS, a hash of the \
                4-tuple in the card, chose the queue and so the CPU.",
        linux_at: &["napi_schedule", "__napi_schedule", "__raise_softirq_irqoff"],
        go: "Nothing. Go does not know of frames; its first sign of this one comes at \
             g.ready, five stages later.",
        go_at: &[],
        corrections: &[Correction {
            said: "Each packet interrupts the CPU, which then copies it from the card.",
            right: "The card writes to memory by itself. The first frame raises one interrupt; \
                    until the queue has been polled empty there is no further one. Under load a \
                    card is polled and interrupts are rare.",
        }],
    },
    Stage {
        number: 2,
        name: "driver.poll",
        title: "A burst is taken off the ring",
        here: "The P whose queue it is takes up to 64 frames off the ring in one call. It polls \
               when it has nothing to run, and also after a bounded number of goroutine runs \
               while it is busy: here the poll is the network card, and a ring that nobody \
               empties drops frames. An idle M sleeps on the device's descriptor instead of \
               spinning.",
        here_at: "driver/src/ring.rs (Queue::rx_burst), stack/src/shard.rs, runtime/src/sched/find.rs",
        linux: "The softirq runs the driver's poll function with a budget of 64 frames, each \
                becomes an sk_buff, and GRO joins neighbouring segments of a flow into one. With \
                a lasting flood ksoftirqd goes on in a thread. When a poll takes less than its \
                budget, NAPI is done and the interrupt is allowed again.",
        linux_at: &[
            "net_rx_action",
            "__napi_poll",
            "napi_gro_receive",
            "napi_complete_done",
        ],
        go: "Nothing yet. In Go polling means asking the kernel which descriptors are ready, \
             and an M asks when it runs out of goroutines; a busy one leaves it to the others \
             and to sysmon.",
        go_at: &["runtime.findRunnable (runtime/proc.go)"],
        corrections: &[Correction {
            said: "The interrupt handler runs the TCP stack.",
            right: "It only schedules the poll. Protocols run in the softirq behind it, most \
                    often on the CPU that took the interrupt, and take the time of whatever \
                    happened to run there.",
        }],
    },
    Stage {
        number: 3,
        name: "flow.lookup",
        title: "The 4-tuple leads to a connection",
        here: "Source and destination, address and port, are looked up in a hash table with a \
               secret seed. A hit gives the connection, and with it the one-socket set that \
               smoltcp will be shown, so that the cost of a frame does not grow with the number \
               of connections. A miss is a SYN for a listener, a flow in TIME-WAIT, a frame for \
               another queue's shard, or answered with a reset under a rate limit.",
        here_at: "stack/src/flow.rs, stack/src/shard/lookup.rs",
        linux: "IP hands the packet to TCP, which looks in the table of established \
                connections by the 4-tuple (ehash), and only then among the listeners. Early \
                demux often finds the socket before routing.",
        linux_at: &[
            "ip_rcv",
            "tcp_v4_early_demux",
            "tcp_v4_rcv",
            "__inet_lookup_established",
            "__inet_lookup_listener",
        ],
        go: "Nothing. What Go has of a connection is a descriptor number in a poll.FD.",
        go_at: &["internal/poll/fd_unix.go (FD)"],
        corrections: &[Correction {
            said: "The server gives each client a port of its own after accept.",
            right: "All accepted connections keep the listener's port. They differ in the \
                    client's address and port: it is the whole 4-tuple that names a connection.",
        }],
    },
    Stage {
        number: 4,
        name: "tcp.ingress",
        title: "TCP takes the segment in",
        here: "smoltcp checks the checksum where no device has, the sequence number and the \
               window, puts the bytes into the receive buffer and notes what must be \
               acknowledged. It sees a set with just this socket. The ACK is not sent at once: \
               if a response follows soon, it rides on that.",
        here_at: "stack/src/shard/ingress.rs, stack/src/conn.rs",
        linux: "A segment that is the expected next one takes the short way: its buffer is hung \
                on the socket's receive queue without a copy. Anything else goes the long way \
                through the state machine. If a thread is just using the socket, the segment \
                waits in its backlog until that thread lets go.",
        linux_at: &[
            "tcp_v4_do_rcv",
            "tcp_rcv_established",
            "tcp_queue_rcv",
            "tcp_ack",
            "tcp_add_backlog",
        ],
        go: "Nothing. The state of TCP is the kernel's alone; Go can only set options such as \
             TCP_NODELAY, which it does for every connection.",
        go_at: &["net.newTCPConn (net/tcpsock.go)"],
        corrections: &[Correction {
            said: "An ACK tells the client that the server program has read its request.",
            right: "It tells that TCP has the bytes. The program may read them later, or \
                    never. What the program does with them shows in the window and in the \
                    response.",
        }],
    },
    Stage {
        number: 5,
        name: "fd.ready",
        title: "The descriptor becomes ready",
        here: "After the last frame of the burst the connection is compared with what it was \
               before: more bytes to read, an end, an error, or room in a send buffer that was \
               full is an edge, and an edge marks the descriptor. It is looked at once, after \
               the whole burst: anything that took in a frame after the look would lose a \
               wake-up. No callback runs and no goroutine is touched yet.",
        here_at: "stack/src/shard.rs, stack/src/conn.rs, stack/src/syscall.rs",
        linux: "TCP calls the socket's data_ready hook, which walks the socket's wait queue. \
                epoll put an entry there when the descriptor was added; the entry's function \
                links it into the epoll's ready list and wakes one thread in epoll_wait. With \
                EPOLLET an entry that was reported is not put back until something new comes.",
        linux_at: &[
            "tcp_data_ready",
            "sock_def_readable",
            "ep_poll_callback",
            "ep_send_events",
        ],
        go: "The registration that makes this work was done once, when the connection was \
             accepted: EPOLL_CTL_ADD for reading, writing and hang-up, edge-triggered, with a \
             tagged pointer to the pollDesc as its data. It is never changed until the close.",
        go_at: &[
            "poll.(*FD).Init (internal/poll/fd_unix.go)",
            "runtime.poll_runtime_pollOpen (runtime/netpoll.go)",
            "runtime.netpollopen (runtime/netpoll_epoll.go)",
        ],
        corrections: &[
            Correction {
                said: "A Go program asks epoll anew before every read or write.",
                right: "epoll_ctl is called once when a descriptor is opened. Edge-triggered, \
                        it needs no re-arming: Read tries first, and only EAGAIN makes the \
                        goroutine wait.",
            },
            Correction {
                said: "Readiness says that there is data now.",
                right: "It says that something has come since the last look. With edges a \
                        reader must read until it is told EAGAIN, or until a short read shows \
                        that the buffer is empty; and it must bear a wake-up for nothing.",
            },
        ],
    },
    Stage {
        number: 6,
        name: "g.ready",
        title: "netpoll makes the goroutine runnable",
        here: "Each descriptor has one word for a direction: empty, ready, waiting, or the \
               goroutine that is parked there. netpoll takes the goroutine out of the word by \
               compare-and-swap and puts it into a run queue: that of the P that polled, or, \
               for one bound to a thread, that thread's inbox. Wakes are gathered and \
               delivered after the shard's lock is free.",
        here_at: "runtime/src/netpoll.rs, runtime/src/netpoll_stack.rs, runtime/src/word.rs",
        linux: "epoll_wait returns: the thread that slept in it gets as many events of the ready \
                list as it has room for (Go gives room for 128). The kernel does not know of goroutines; it gives back the \
                pointer that it was given at EPOLL_CTL_ADD.",
        linux_at: &["do_epoll_wait", "ep_poll", "ep_send_events"],
        go: "netpoll calls epoll_wait, follows each pointer to its pollDesc, swaps the parked \
             goroutine out of rg or wg, and returns a list of goroutines. The caller, whichever \
             M had nothing to do, runs the first and puts the others into run queues.",
        go_at: &[
            "runtime.netpoll (runtime/netpoll_epoll.go)",
            "runtime.netpollready, netpollunblock (runtime/netpoll.go)",
            "runtime.injectglist (runtime/proc.go)",
        ],
        corrections: &[
            Correction {
                said: "netpoll calls a callback for each ready connection.",
                right: "It returns a list of goroutines. What runs next is the goroutine \
                        itself, behind the call to Read in which it parked.",
            },
            Correction {
                said: "A thread of its own runs the event loop.",
                right: "There is no such thread. An M without work polls, at first without \
                        waiting; the last one to go idle waits in epoll_wait; and sysmon looks \
                        when nobody has for 10 ms.",
            },
        ],
    },
    Stage {
        number: 7,
        name: "g.run",
        title: "A P picks it, an M runs it",
        here: "The time between g.ready and here is the scheduler's latency: the goroutine \
               stood in a queue behind others. A P looks in Go's order: every 61st tick the \
               global queue first, then runnext, its own queue of 256, the global queue, the \
               network, and half of another P's queue. Goroutines in the middle of their code \
               stay on their thread, for what is on a Rust stack need not be Send; between two \
               requests a connection's goroutine is free to move.",
        here_at: "runtime/src/sched/find.rs, runtime/src/sched/run_queue.rs, runtime/src/m.rs",
        linux: "The kernel schedules threads, here M's: one that slept was made runnable by a \
                futex or by epoll and waits for a CPU. Switching between two goroutines of one \
                M needs no system call, and the kernel does not see it.",
        linux_at: &["try_to_wake_up", "schedule", "futex_wake"],
        go: "schedule asks findRunnable for a goroutine and execute switches to its stack. \
             Running needs both: an M, which is a thread, and a P, which is the right to run Go \
             code with a queue and caches. There are GOMAXPROCS P's, and more M's when some are \
             in system calls.",
        go_at: &[
            "runtime.schedule, findRunnable, execute, runqget, stealWork (runtime/proc.go)",
            "runtime.gogo (runtime/asm_amd64.s)",
        ],
        corrections: &[
            Correction {
                said: "Each M has a P of its own.",
                right: "A P is handed off. When an M stays in a system call, sysmon takes its P \
                        and gives it to another M; when the call returns, the M looks for any \
                        free P. A parked goroutine holds neither.",
            },
            Correction {
                said: "A goroutine that waits for the network blocks a thread.",
                right: "Only the goroutine waits. The M keeps its P and runs the next one.",
            },
        ],
    },
    Stage {
        number: 8,
        name: "conn.read",
        title: "Bytes are copied to the goroutine",
        here: "The goroutine calls read, and the bytes are copied from the socket's buffer into \
               the connection's head buffer: the second copy of ours on the way in, the first \
               being the one from the frame into the socket's buffer. The head is looked through as it comes and parsed \
               once it is whole. If it is not, the goroutine parks: between two requests it \
               gives its stack back meanwhile.",
        here_at: "stack/src/syscall.rs, runtime/src/net/stream.rs, server/src/conn/input.rs",
        linux: "read(2) enters the kernel on the goroutine's thread, copies from the receive \
                queue to the program's memory, and gives the space back to the window, which \
                may send a window update. With nothing there a non-blocking socket says EAGAIN.",
        linux_at: &[
            "sock_read_iter",
            "tcp_recvmsg",
            "skb_copy_datagram_msg",
            "tcp_cleanup_rbuf",
        ],
        go: "conn.serve reads through a buffer of 4 KiB, and FD.Read calls read(2) at once; on \
             EAGAIN it parks in waitRead, and tries again when it is woken. The goroutine is \
             the connection's: the one that accept started, which has served the requests \
             before this one. A second goroutine may watch in the background for a hang-up \
             while the handler runs.",
        go_at: &[
            "net/http.(*conn).serve, readRequest (net/http/server.go)",
            "poll.(*FD).Read (internal/poll/fd_unix.go)",
            "runtime.netpollblock, gopark (runtime/netpoll.go, runtime/proc.go)",
        ],
        corrections: &[
            Correction {
                said: "The server starts a goroutine for each request.",
                right: "For each connection. Over HTTP/1.1 its requests are served one after \
                        another by the same goroutine; accept, not the request, starts it. (In \
                        HTTP/2 each stream has one.)",
            },
            Correction {
                said: "Read waits in the kernel until data comes.",
                right: "The descriptor is non-blocking. Read asks once, hears EAGAIN and parks \
                        in the runtime; the thread goes on with other goroutines.",
            },
        ],
    },
    Stage {
        number: 9,
        name: "conn.write",
        title: "The response is in the send buffer",
        here: "What the handler wrote was gathered behind a head, and goes into the socket's \
               send buffer. That marks the connection as dirty and sends nothing yet: the P \
               flushes after its goroutines have run, so that many responses share a burst and \
               a kick, and the ACK of the request rides on the response. A full buffer parks \
               the goroutine until a third of it is free.",
        here_at: "server/src/conn/wire.rs, stack/src/syscall.rs, stack/src/shard/user.rs",
        linux: "write(2) copies the bytes into sk_buffs of the socket's write queue, as many as \
                the send buffer allows. Its return says how many bytes were taken.",
        linux_at: &[
            "sock_write_iter",
            "tcp_sendmsg",
            "tcp_sendmsg_locked",
            "skb_do_copy_data_nocache",
        ],
        go: "A handler's Write goes into a buffer of 2 KiB, which decides between \
             Content-Length and chunks, and then into the connection's of 4 KiB; when the \
             handler returns, finishRequest flushes both. FD.Write calls write(2) until all is \
             taken, and parks in waitWrite on EAGAIN.",
        go_at: &[
            "net/http.(*response).Write, finishRequest (net/http/server.go)",
            "poll.(*FD).Write (internal/poll/fd_unix.go)",
        ],
        corrections: &[Correction {
            said: "When Write returns, the client has the response.",
            right: "The bytes are in a buffer of the server's machine. They may wait for the \
                    client's window, be lost and be sent again, long after the handler ended.",
        }],
    },
    Stage {
        number: 10,
        name: "tcp.segment",
        title: "TCP cuts a segment",
        here: "smoltcp takes from the send buffer what the peer's window, the congestion window \
               and the segment size allow, and writes headers and bytes straight into a frame \
               of the pool. The bytes stay in the send buffer until they are acknowledged. On a \
               TAP over IPv4 a segment may have up to 64 KiB, which the kernel cuts.",
        here_at: "stack/src/shard/egress.rs, stack/src/phy.rs",
        linux: "In the same write(2), on the same thread, TCP builds segments as far as windows \
                and pacing allow, keeps them for retransmission, and sends a clone of each down \
                through IP. With TSO one goes down with up to 64 KiB and the card cuts it. What \
                the windows hold back leaves later, when an ACK comes in or a timer fires.",
        linux_at: &[
            "tcp_push",
            "__tcp_push_pending_frames",
            "tcp_write_xmit",
            "__tcp_transmit_skb",
            "ip_queue_xmit",
        ],
        go: "Nothing, but for one setting: Nagle's algorithm is off, so that a short last \
             segment does not wait for the ACK of the one before.",
        go_at: &["net.setNoDelay (net/tcpsockopt_posix.go)"],
        corrections: &[
            Correction {
                said: "A kernel thread sends later what write left in the buffer.",
                right: "In Linux the write call itself runs TCP, IP, the queueing discipline \
                        and often the driver. Only what must wait for a window, a timer or a \
                        full queue is sent from elsewhere. (Here it is deferred on purpose, to \
                        the end of the P's turn.)",
            },
            Correction {
                said: "One write is one packet.",
                right: "TCP is a stream: a write may be cut into many segments and several may \
                        share one. That is why events here are tied by byte ranges.",
            },
        ],
    },
    Stage {
        number: 11,
        name: "nic.tx",
        title: "A frame is in the TX ring",
        here: "The Ethernet header is put before the segment and the frame's descriptor into \
               the transmit ring. A full ring is told, never silent: what has not been cut \
               stays in the send buffer, and the few frames that were under way wait in a \
               bounded queue.",
        here_at: "driver/src/ring.rs (Queue::tx_burst), stack/src/shard/egress.rs",
        linux: "The neighbour entry supplies the MAC address, the packet passes the queueing \
                discipline (often fq_codel), and the driver maps its memory for DMA and fills \
                in descriptors. Byte queue limits keep the ring short on purpose, so that \
                waiting happens where it can be scheduled fairly.",
        linux_at: &[
            "neigh_output",
            "__dev_queue_xmit",
            "sch_direct_xmit",
            "dev_hard_start_xmit",
            "netdev_tx_sent_queue",
        ],
        go: "Nothing. If Write has returned, Go is already reading the next request of the \
             connection.",
        go_at: &["net/http.(*conn).serve (net/http/server.go)"],
        corrections: &[Correction {
            said: "The driver copies the packet to the card.",
            right: "It writes a descriptor, an address and a length. The card fetches the \
                    bytes by DMA when it gets to it.",
        }],
    },
    Stage {
        number: 12,
        name: "driver.kick",
        title: "The ring is handed to the device",
        here: "Once for a burst, the device is told that there are frames. On AF_XDP that is a \
               sendto without data, and left out where the kernel says that it looks by itself; \
               on a TAP it is a write(2) for each frame, which hands it over and completes it \
               in one.",
        here_at: "driver/src/ring.rs (Queue::kick), driver/src/xdp/queue.rs, driver/src/tap/mod.rs",
        linux: "The driver writes the ring's tail to a register of the card: the doorbell. Since \
                that write is slow, it is left out while more packets are announced to follow.",
        linux_at: &[
            "netdev_xmit_more",
            "ndo_start_xmit",
            "tun_get_user",
            "xsk_sendmsg",
        ],
        go: "Nothing.",
        go_at: &[],
        corrections: &[Correction {
            said: "AF_XDP sends without system calls.",
            right: "In copy mode each burst needs one: the kernel does its work inside the \
                    call. In zero-copy mode it is needed when the ring's need-wakeup flag is \
                    set, and not while the driver polls anyway.",
        }],
    },
    Stage {
        number: 13,
        name: "nic.done",
        title: "The frame is back in the pool",
        here: "The completion ring says that the device has read the frame's memory, and its \
               slot goes back to the pool for the next frame in or out. A frame is owned by one \
               side at a time, so nothing is copied and nothing freed twice. On a TAP the write \
               has already done this, and the trace says that it cannot be seen apart.",
        here_at: "driver/src/ring.rs (Queue::reclaim), driver/src/frame.rs",
        linux: "The card marks the descriptors as sent; NAPI's poll finds them, unmaps and frees \
                the clones, and tells byte queue limits and TCP that there is room. TCP's own \
                copy stays in the retransmission queue until the ACK comes.",
        linux_at: &[
            "napi_consume_skb",
            "netdev_tx_completed_queue",
            "tcp_wfree",
            "tcp_clean_rtx_queue",
        ],
        go: "Nothing. A goroutine that met a full send buffer is woken when ACKs have made room, \
             by an edge for writing: stages 5 to 7 once more.",
        go_at: &["poll.(*FD).Write (internal/poll/fd_unix.go)"],
        corrections: &[Correction {
            said: "A completed frame has arrived.",
            right: "Completion frees memory on this machine and says nothing of the peer. \
                    Arrival is told by an ACK, and even that is from the peer's TCP, not from \
                    its program.",
        }],
    },
    Stage {
        number: 14,
        name: "http.handler",
        title: "The mux finds the handler, which answers",
        here: "From the parsed head to the last byte written: the mux walks its tree of \
               patterns, the handler runs on the connection's own goroutine, and what it writes \
               becomes the response. Its time includes waiting: for the body, for a lock, for \
               room in the send buffer. Then the same goroutine reads the next request.",
        here_at: "server/src/mux/tree.rs, server/src/conn/exchange.rs, server/src/handler.rs",
        linux: "Nothing, unless the handler makes system calls: files, other connections, time.",
        linux_at: &[],
        go: "serverHandler calls the mux, the mux finds the most specific pattern in a tree (by \
             host, then method, then segment after segment) and calls its handler, a plain \
             function, on the goroutine of the connection. A panic ends the connection, not \
             the process. On return the response is finished and flushed.",
        go_at: &[
            "net/http.serverHandler.ServeHTTP, (*ServeMux).findHandler (net/http/server.go)",
            "net/http.(*routingNode).match (net/http/routing_tree.go)",
        ],
        corrections: &[
            Correction {
                said: "The mux goes through a list of patterns, the longest first.",
                right: "Since Go 1.22 it is a tree, walked segment by segment, and the most \
                        specific pattern wins whatever the order of registration. Two patterns \
                        of which neither is more specific conflict when they are registered.",
            },
            Correction {
                said: "The handler gets a goroutine of its own.",
                right: "ServeHTTP is an ordinary call in the connection's loop. That is why a \
                        slow handler holds up the next request on its connection, and no other.",
            },
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use wirepath_driver::trace::Kind;

    #[test]
    fn stages_are_those_of_the_trace() {
        for (stage, kind) in STAGES.iter().zip(Kind::STAGES) {
            assert_eq!(Some(stage.number), kind.stage());
            assert_eq!(stage.name, kind.name());
            assert_eq!(by_number(stage.number), Some(stage));
            assert_eq!(by_name(stage.name), Some(stage));
        }
        assert_eq!(by_number(0), None);
        assert_eq!(by_number(15), None);
        assert_eq!(by_name("nic"), None);
    }

    #[test]
    fn a_walk_meets_every_stage_once() {
        let mut walk = WALK;
        walk.sort_unstable();
        assert!(walk.into_iter().eq(1..=14));
    }

    #[test]
    fn texts_are_plain_and_their_places_exist() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        for stage in &STAGES {
            for text in [stage.title, stage.here, stage.linux, stage.go] {
                assert!(!text.is_empty(), "{}", stage.name);
                assert!(!text.contains("  "), "{}: {text}", stage.name);
            }
            for place in stage.here_at.split(", ") {
                let (file, _) = place.split_once(" (").unwrap_or((place, ""));
                let path = std::path::Path::new(root).join(file);
                assert!(path.is_file(), "{}: {file}", stage.name);
            }
            for Correction { said, right } in stage.corrections {
                assert!(said.ends_with('.') && !right.contains("  "), "{said}");
            }
        }
    }
}
