//! Questions to the kernel over a netlink socket, and all of the answer.

use std::io;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec};

/// How long an answer may take: a driver may talk to its NIC for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest message that the kernel sends to a dump (`NLMSG_GOODSIZE` and
/// what skbs are rounded up to are below it).
const BUFFER_LEN: usize = 1 << 16;

/// A netlink socket in the network namespace of the thread that opened it.
pub struct Conversation {
    socket: Socket,
    sequence: u32,
}

impl Conversation {
    /// A socket of `protocol` (`NETLINK_*`).
    ///
    /// # Errors
    /// What socket(2) and bind(2) say.
    pub fn open(protocol: isize) -> io::Result<Conversation> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        Ok(Conversation {
            socket,
            sequence: 0,
        })
    }

    /// Asks `question` and returns what the kernel answers, up to its `done`
    /// or its acknowledgement. `flags` must hold `NLM_F_DUMP` or `NLM_F_ACK`,
    /// which say that there will be such an end.
    ///
    /// # Errors
    /// What the kernel said, or `TimedOut` after [`PATIENCE`].
    pub fn ask<T>(&mut self, question: T, flags: u16) -> io::Result<Vec<T>>
    where
        T: NetlinkSerializable + NetlinkDeserializable + std::fmt::Debug,
    {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        self.answers()
    }

    fn answers<T>(&mut self) -> io::Result<Vec<T>>
    where
        T: NetlinkDeserializable + std::fmt::Debug,
    {
        let deadline = Instant::now() + PATIENCE;
        let mut answers = Vec::new();
        loop {
            self.wait(deadline)?;
            let mut buffer = Vec::with_capacity(BUFFER_LEN);
            self.socket.recv(&mut buffer, 0)?;
            if self.take(&buffer, &mut answers)? {
                return Ok(answers);
            }
        }
    }

    fn wait(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&left))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    /// Takes the messages of one datagram. True once the answer is complete.
    fn take<T>(&self, mut datagram: &[u8], answers: &mut Vec<T>) -> io::Result<bool>
    where
        T: NetlinkDeserializable + std::fmt::Debug,
    {
        while !datagram.is_empty() {
            let message = NetlinkMessage::<T>::deserialize(datagram).map_err(io::Error::other)?;
            let len = (message.header.length as usize).next_multiple_of(4);
            datagram = datagram.get(len..).unwrap_or_default();
            if message.header.sequence_number != self.sequence {
                continue;
            }
            match message.payload {
                NetlinkPayload::Done(done) if done.code == 0 => return Ok(true),
                NetlinkPayload::Done(done) => {
                    return Err(io::Error::from_raw_os_error(-done.code));
                }
                NetlinkPayload::Error(verdict) if verdict.code.is_none() => return Ok(true),
                NetlinkPayload::Error(verdict) => return Err(verdict.to_io()),
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            }
        }
        Ok(false)
    }
}
