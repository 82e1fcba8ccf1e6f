//! Generic netlink: questions to the `ethtool` and `netdev` families.
//!
//! A family's number is asked of the controller by name
//! (include/uapi/linux/genetlink.h).

use std::io;

use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_ACK, NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader,
    NetlinkSerializable,
};
use netlink_sys::protocols::NETLINK_GENERIC;

use super::attribute::{Attribute, Attributes};
use super::conversation::Conversation;

/// The controller's own number, `GENL_ID_CTRL`.
const CONTROLLER: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// The header behind netlink's: command, version, two bytes reserved.
const HEADER_LEN: usize = 4;

/// A message of a generic netlink family.
#[derive(Debug, Clone)]
pub struct Generic {
    family: u16,
    command: u8,
    body: Vec<u8>,
}

impl Generic {
    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'_> {
        Attributes::parse(&self.body)
    }
}

impl NetlinkSerializable for Generic {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        HEADER_LEN + self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..HEADER_LEN].copy_from_slice(&[self.command, 1, 0, 0]);
        buffer[HEADER_LEN..].copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for Generic {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Generic, DecodeError> {
        let Some((start, body)) = payload.split_at_checked(HEADER_LEN) else {
            return Err(DecodeError::from(
                "a generic netlink message without header",
            ));
        };
        Ok(Generic {
            family: header.message_type,
            command: start[0],
            body: body.to_vec(),
        })
    }
}

/// A family of generic netlink in the network namespace of the thread that
/// opened it.
pub struct Family {
    conversation: Conversation,
    id: u16,
}

impl Family {
    /// The family called `name`.
    ///
    /// # Errors
    /// `NotFound` if the kernel has no such family; what a socket says.
    pub fn open(name: &str) -> io::Result<Family> {
        let conversation = Conversation::open(NETLINK_GENERIC)?;
        let mut controller = Family {
            conversation,
            id: CONTROLLER,
        };
        let asked = [Attribute::text(CTRL_ATTR_FAMILY_NAME, name)];
        let answer = controller.ask(CTRL_CMD_GETFAMILY, &asked)?;
        let id = answer.attributes().u16(CTRL_ATTR_FAMILY_ID);
        controller.id = id.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(controller)
    }

    /// Asks for one thing.
    ///
    /// # Errors
    /// What the kernel said: `Unsupported` (EOPNOTSUPP) if the driver does not
    /// know.
    pub fn ask(&mut self, command: u8, attributes: &[Attribute]) -> io::Result<Generic> {
        let answers = self.converse(command, attributes, NLM_F_ACK)?;
        let first = answers.into_iter().next();
        first.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Asks for a list.
    ///
    /// # Errors
    /// As [`Family::ask`].
    pub fn dump(&mut self, command: u8, attributes: &[Attribute]) -> io::Result<Vec<Generic>> {
        self.converse(command, attributes, NLM_F_DUMP)
    }

    fn converse(
        &mut self,
        command: u8,
        attributes: &[Attribute],
        flags: u16,
    ) -> io::Result<Vec<Generic>> {
        let mut body = vec![0; attributes.buffer_len()];
        attributes.emit(&mut body);
        self.conversation.ask(
            Generic {
                family: self.id,
                command,
                body,
            },
            flags,
        )
    }
}
