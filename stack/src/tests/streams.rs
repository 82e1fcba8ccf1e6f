//! Established: bytes, ends, readiness.

use super::*;
use crate::Shutdown;

#[test]
fn bytes_arrive_in_order_both_ways_whatever_the_ring() {
    let mut options = ListenOptions::default();
    (options.recv_buffer, options.send_buffer) = (5_000, 3_001);
    for (addr, options) in [(SERVER, options), (SERVER_V6, ListenOptions::default())] {
        let mut net = Net::new();
        let (_, server, client) = net.connected_to(addr, &options);
        let data = pattern(0, 300_000);
        transfer(&mut net, (1, client), (0, server), &data, 1_777);
        transfer(&mut net, (0, server), (1, client), &data, 70_000);
    }
}

#[test]
fn a_read_takes_both_parts_of_a_straddle() {
    let mut net = Net::new();
    let options = ListenOptions {
        recv_buffer: 1_000,
        ..ListenOptions::default()
    };
    let (_, server, client) = net.connected_to(SERVER, &options);
    net.write(1, client, &pattern(0, 700)).unwrap();
    net.settle();
    assert_eq!(net.read(0, server, 700).unwrap().len(), 700);
    net.settle();
    net.write(1, client, &pattern(700, 600)).unwrap();
    net.settle();
    assert_eq!(net.read(0, server, 1_000).unwrap(), pattern(700, 600));
}

#[test]
fn an_orderly_end_passes_both_ways_and_leaves_time_wait() {
    let mut net = Net::new();
    let (_, server, client) = net.connected();
    net.write(1, client, b"last words").unwrap();
    net.client.close(client, net.now).unwrap();
    assert_eq!(net.client.close(client, net.now), Err(Errno::BadFd));
    net.settle();
    assert_eq!(net.told(0, server), Ready::READ | Ready::END);
    assert_eq!(net.read(0, server, 99).unwrap(), b"last words");
    assert_eq!(net.read(0, server, 99).unwrap(), b"");
    assert_eq!(net.state(0, server), "CLOSE-WAIT");
    net.write(0, server, b"unheard").unwrap();
    net.server.close(server, net.now).unwrap();
    net.settle();
    // Data for a closed connection: reset.
    assert_eq!(net.count(1, "resets_sent"), 1);
    assert_eq!(
        (net.count(0, "connections"), net.count(1, "connections")),
        (0, 0)
    );
    let (_, server, client) = {
        let client = net.dial(SERVER);
        net.settle();
        let listener = net.take_events(0).iter().find(|e| e.token == 1).unwrap().fd;
        (
            listener,
            net.server.accept(listener, net.now).unwrap().0,
            client,
        )
    };
    net.client.close(client, net.now).unwrap();
    net.settle();
    net.server.close(server, net.now).unwrap();
    net.settle();
    assert_eq!(
        (net.count(1, "connections"), net.count(1, "time_wait")),
        (0, 1)
    );
    assert_eq!(
        (net.count(0, "connections"), net.count(0, "time_wait")),
        (0, 0)
    );
    net.advance(Duration::from_secs(61));
    net.settle();
    assert_eq!(net.count(1, "time_wait"), 0);
}

#[test]
fn half_closed_connections_go_on_the_other_way() {
    let mut net = Net::new();
    let (_, server, client) = net.connected();
    net.client
        .shutdown(client, Shutdown::Write, net.now)
        .unwrap();
    net.settle();
    assert_eq!(net.read(0, server, 1).unwrap(), b"");
    assert_eq!(net.write(1, client, b"x"), Err(Errno::BrokenPipe));
    let data = pattern(0, 200_000);
    transfer(&mut net, (0, server), (1, client), &data, 9_000);
    // The network is done before the reader is: what it has is still read.
    net.write(0, server, b"tail").unwrap();
    net.server.close(server, net.now).unwrap();
    net.settle();
    assert_eq!(net.count(1, "time_wait"), 1);
    net.advance(Duration::from_secs(30));
    assert_eq!(net.read(1, client, 9).unwrap(), b"tail");
    assert_eq!(net.read(1, client, 9).unwrap(), b"");
    net.client.close(client, net.now).unwrap();
    assert_eq!(net.count(1, "connections"), 0);
}

#[test]
fn resets_tell_both_sides() {
    let mut net = Net::new();
    let (_, server, client) = net.connected();
    net.write(0, server, b"before").unwrap();
    net.settle();
    net.server.abort(server, net.now).unwrap();
    net.settle();
    let all = Ready::all() - Ready::MORE;
    assert_eq!(net.told(1, client), all);
    assert_eq!(net.read(1, client, 9).unwrap(), b"before");
    assert_eq!(net.read(1, client, 9), Err(Errno::ConnectionReset));
    assert_eq!(net.write(1, client, b"x"), Err(Errno::ConnectionReset));
    assert_eq!(net.client.register(client, 1), Ok(all));
    net.client.close(client, net.now).unwrap();
    assert_eq!(net.count(1, "connections"), 0);
}

#[test]
fn close_with_unread_data_resets() {
    let mut net = Net::new();
    let (_, server, client) = net.connected();
    net.write(1, client, b"unread").unwrap();
    net.settle();
    net.server.close(server, net.now).unwrap();
    net.settle();
    assert_eq!(net.read(1, client, 9), Err(Errno::ConnectionReset));
}

#[test]
fn shutting_down_reading_discards_and_keeps_the_window_open() {
    let mut net = Net::new();
    let (_, server, client) = net.connected();
    net.server
        .shutdown(server, Shutdown::Read, net.now)
        .unwrap();
    net.settle();
    assert_eq!(net.told(0, server), Ready::READ | Ready::END);
    assert_eq!(net.read(0, server, 1).unwrap(), b"");
    let mut left = 500_000;
    while left > 0 {
        match net.write(1, client, &pattern(0, left.min(10_000))) {
            Ok(n) => left -= n,
            Err(e) => assert_eq!(e, Errno::WouldBlock),
        }
        net.settle();
    }
    assert_eq!(net.server.queued(server), Ok((0, 0)));
}

#[test]
fn a_writer_is_told_when_a_third_is_free() {
    let mut net = Net::new();
    let options = ListenOptions {
        send_buffer: 30_000,
        ..ListenOptions::default()
    };
    let (_, server, client) = net.connected_to(SERVER, &options);
    // The client's buffer fills, then the server's.
    let mut total = 0;
    loop {
        match net.write(0, server, &pattern(total, 10_000)) {
            Ok(n) => total += n,
            Err(e) => break assert_eq!(e, Errno::WouldBlock),
        }
        net.settle();
    }
    net.take_events(0);
    let before = net.server.queued(server).unwrap().1;
    assert_eq!(before, 30_000);
    let mut got = 0;
    while !net.told(0, server).contains(Ready::WRITE) {
        got += net.read(1, client, 1_000).unwrap().len();
        net.settle();
        assert!(got < total);
    }
    assert!(net.server.queued(server).unwrap().1 <= 20_000);
}

#[test]
fn a_reader_that_waits_for_events_gets_every_byte() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut net = Net::new();
        let options = ListenOptions {
            recv_buffer: 1 + random.below(4_000),
            ..ListenOptions::default()
        };
        let (_, server, client) = net.connected_to(SERVER, &options);
        let data = pattern(0, 20_000);
        let (mut written, mut got) = (0, Vec::new());
        let mut may_read = true;
        let mut idle = 0;
        while got.len() < data.len() {
            let before = (written, got.len());
            match random.below(6) {
                0 => {
                    let end = data.len().min(written + 1 + random.below(3_000));
                    written += net.write(1, client, &data[written..end]).unwrap_or(0);
                }
                1 => net.flush(1),
                2 => net.poll(0),
                3 => net.flush(0),
                4 => net.poll(1),
                _ if may_read => match net.read(0, server, 1 + random.below(2_000)) {
                    Ok(bytes) => got.extend(bytes),
                    Err(e) => {
                        assert_eq!(e, Errno::WouldBlock);
                        may_read = false;
                    }
                },
                _ => {}
            }
            may_read |= net.told(0, server).contains(Ready::READ);
            idle = if before == (written, got.len()) {
                idle + 1
            } else {
                0
            };
            if idle > 300 {
                net.now = net.now + Duration::from_millis(500);
            }
            assert!(
                idle < 3_000,
                "seed {seed}: stuck at {} of {written}",
                got.len()
            );
        }
        assert!(got == data, "seed {seed}");
    }
}

#[test]
fn idle_connections_give_their_pages_back_and_go_on() {
    let mut net = Net::new();
    let (_, server, client) = net.connected();
    let data = pattern(0, 100_000);
    transfer(&mut net, (1, client), (0, server), &data, 4_000);
    net.advance(Duration::from_secs(10));
    assert_eq!(net.count(0, "buffers_discarded"), 1);
    transfer(&mut net, (1, client), (0, server), &data, 4_000);
    transfer(&mut net, (0, server), (1, client), &data, 4_000);
    net.advance(Duration::from_secs(10));
    assert_eq!(net.count(0, "buffers_discarded"), 2);
}

#[test]
fn a_transfer_both_ways_without_loss_waits_for_no_timer() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut net = Net::new();
        let (_, server, client) = net.connected();
        let fds = [server, client];
        let data = pattern(0, 150_000);
        let (mut sent, mut got) = ([0; 2], [0; 2]);
        let begun = net.now;
        while got != [data.len(); 2] {
            let side = random.below(2);
            let n = 1 + random.below(20_000);
            let rest = &data[sent[side]..];
            match random.below(3) {
                0 if rest.is_empty() => {}
                0 => {
                    let written = net.write(side, fds[side], &rest[..n.min(rest.len())]);
                    sent[side] += written.unwrap_or(0);
                    if sent[side] == data.len() {
                        let stack = [&net.server, &net.client][side];
                        stack.shutdown(fds[side], Shutdown::Write, net.now).unwrap();
                    }
                }
                1 => got[side] += net.read(side, fds[side], n).map_or(0, |bytes| bytes.len()),
                _ => net.advance(Duration::from_millis(1)),
            }
            // The least retransmission timeout is a second.
            let took = net.now.since(begun);
            assert!(took < Duration::from_millis(900), "seed {seed}: {got:?}");
        }
    }
}
