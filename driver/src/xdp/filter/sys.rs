//! bpf(2): the few commands that loading, attaching and asking need, and one
//! that runs a program on a frame, for tests.
//!
//! `union bpf_attr` of linux/bpf.h is a different struct for each command; the
//! structs here are the leading fields of those that are used. The kernel takes
//! any length and reads what is missing as zero, so a struct may end early.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::asm::Insn;

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;
#[cfg(test)]
const OBJ_PIN: libc::c_int = 6;
#[cfg(test)]
const PROG_TEST_RUN: libc::c_int = 10;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;
const LINK_GET_FD_BY_ID: libc::c_int = 30;
const LINK_GET_NEXT_ID: libc::c_int = 31;
const LINK_DETACH: libc::c_int = 34;

const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const LINK_TYPE_XDP: u32 = 6;

/// Bytes of a name with its terminator (`BPF_OBJ_NAME_LEN`).
const NAME_LEN: usize = 16;

/// A map of sockets that frames are redirected to, by queue.
pub const MAP_TYPE_XSKMAP: u32 = 17;
/// A map that is an array of values.
pub const MAP_TYPE_ARRAY: u32 = 2;
/// The values can be mapped by processes (`BPF_F_MMAPABLE`).
pub const MAP_MMAPABLE: u32 = 1 << 10;

/// The verdicts of an XDP program (`enum xdp_action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    /// The frame goes no further.
    Drop = 1,
    /// The kernel takes the frame.
    Pass = 2,
    /// The frame goes to a socket.
    Redirect = 4,
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; NAME_LEN],
}

#[repr(C)]
#[derive(Default)]
struct MapElem {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_LEN],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[cfg(test)]
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

#[cfg(test)]
#[repr(C)]
#[derive(Default)]
struct ObjPin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkDetach {
    link_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct GetId {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The head of `struct bpf_prog_info`, up to the name.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    prog_type: u32,
    id: u32,
    tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; NAME_LEN],
}

/// The head of `struct bpf_link_info`, for a link of XDP. `ifindex` is in a
/// union of structs that hold 64-bit fields, so it begins at byte 16.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    link_type: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    ifindex: u32,
    tail: [u32; 3],
}

/// Runs one command of bpf(2) and gives its result, which is not negative.
///
/// # Safety
/// `attr` is the struct of `command`, and each address in it is that of memory
/// as large as the command takes it to be, writable where the kernel writes.
unsafe fn bpf<A>(command: libc::c_int, attr: &mut A) -> io::Result<RawFd> {
    // SAFETY: the caller's promise; the length is that of the struct itself.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            std::mem::size_of::<A>(),
        )
    };
    match RawFd::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// As [`bpf`], of a command whose result is a new descriptor.
///
/// # Safety
/// As of [`bpf`], and `command` does give a descriptor.
unsafe fn bpf_fd<A>(command: libc::c_int, attr: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attr)? };
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address<T: ?Sized>(of: &T) -> u64 {
    std::ptr::from_ref(of).cast::<u8>() as u64
}

fn address_mut<T: ?Sized>(of: &mut T) -> u64 {
    std::ptr::from_mut(of).cast::<u8>() as u64
}

/// A name as the kernel holds it: cut to 15 bytes, ended with zeros.
fn name_bytes(name: &str) -> [u8; NAME_LEN] {
    let mut bytes = [0; NAME_LEN];
    for (to, from) in bytes.iter_mut().take(NAME_LEN - 1).zip(name.bytes()) {
        *to = from;
    }
    bytes
}

/// Makes a map with keys of four bytes (`BPF_MAP_CREATE`).
pub fn map_create(
    map_type: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    name: &str,
) -> io::Result<OwnedFd> {
    let mut attr = MapCreate {
        map_type,
        key_size: 4,
        value_size,
        max_entries,
        map_flags: flags,
        map_name: name_bytes(name),
        ..MapCreate::default()
    };
    // SAFETY: MapCreate is this command's struct, and holds no address.
    unsafe { bpf_fd(MAP_CREATE, &mut attr) }
}

/// Sets an entry of a map with values of four bytes (`BPF_MAP_UPDATE_ELEM`).
pub fn map_update(map: BorrowedFd<'_>, key: u32, value: u32) -> io::Result<()> {
    let mut attr = MapElem {
        map_fd: map.as_raw_fd() as u32,
        key: address(&key),
        value: address(&value),
        ..MapElem::default()
    };
    // SAFETY: key and value live over the call and are as long as map_create's
    // callers made them: four bytes each.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr).map(drop) }
}

/// Empties an entry of a map (`BPF_MAP_DELETE_ELEM`).
pub fn map_delete(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    let mut attr = MapElem {
        map_fd: map.as_raw_fd() as u32,
        key: address(&key),
        ..MapElem::default()
    };
    // SAFETY: the key lives over the call and is four bytes long.
    unsafe { bpf(MAP_DELETE_ELEM, &mut attr).map(drop) }
}

/// Loads an XDP program (`BPF_PROG_LOAD`). With a `log`, the verifier writes
/// what it did there.
pub fn prog_load(insns: &[Insn], name: &str, log: Option<&mut [u8]>) -> io::Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let mut attr = ProgLoad {
        prog_type: PROG_TYPE_XDP,
        insn_cnt: u32::try_from(insns.len()).unwrap_or(u32::MAX),
        insns: address(insns),
        license: license.as_ptr() as u64,
        prog_name: name_bytes(name),
        expected_attach_type: ATTACH_XDP,
        ..ProgLoad::default()
    };
    if let Some(log) = log {
        attr.log_level = 1;
        attr.log_size = u32::try_from(log.len()).unwrap_or(u32::MAX);
        attr.log_buf = address_mut(log);
    }
    // SAFETY: instructions, licence and log live over the call; the lengths are
    // theirs, and the licence ends with a zero.
    unsafe { bpf_fd(PROG_LOAD, &mut attr) }
}

/// What running a program on a frame gave.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// What the program returned.
    pub verdict: u32,
    /// The mean time of a run, in nanoseconds.
    pub ns: u32,
}

/// Runs the program `repeat` times on a frame that is not sent anywhere
/// (`BPF_PROG_TEST_RUN`). The frame is at least 14 bytes long.
#[cfg(test)]
pub fn prog_test_run(prog: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> io::Result<Ran> {
    let mut attr = TestRun {
        prog_fd: prog.as_raw_fd() as u32,
        data_size_in: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        data_in: address(frame),
        repeat,
        ..TestRun::default()
    };
    // SAFETY: the frame lives over the call and the length is its own; nothing
    // is written back, since data_out is null.
    unsafe { bpf(PROG_TEST_RUN, &mut attr)? };
    Ok(Ran {
        verdict: attr.retval,
        ns: attr.duration,
    })
}

/// Attaches a program to an interface for as long as the descriptor that this
/// gives is open (`BPF_LINK_CREATE`). `flags` are `XDP_FLAGS_*` of
/// linux/if_link.h.
pub fn link_create(prog: BorrowedFd<'_>, ifindex: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreate {
        prog_fd: prog.as_raw_fd() as u32,
        target_ifindex: ifindex,
        attach_type: ATTACH_XDP,
        flags,
    };
    // SAFETY: LinkCreate is this command's struct, and holds no address.
    unsafe { bpf_fd(LINK_CREATE, &mut attr) }
}

/// Has a file of a BPF file system keep an object (`BPF_OBJ_PIN`).
#[cfg(test)]
pub fn obj_pin(object: BorrowedFd<'_>, path: &std::ffi::CStr) -> io::Result<()> {
    let mut attr = ObjPin {
        pathname: path.as_ptr() as u64,
        bpf_fd: object.as_raw_fd() as u32,
        ..ObjPin::default()
    };
    // SAFETY: the path lives over the call and ends with a zero.
    unsafe { bpf(OBJ_PIN, &mut attr).map(drop) }
}

/// Takes a link's program off its interface now, whoever else has the link open
/// (`BPF_LINK_DETACH`, Linux 5.9).
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkDetach {
        link_fd: link.as_raw_fd() as u32,
    };
    // SAFETY: LinkDetach is this command's struct, and holds no address.
    unsafe { bpf(LINK_DETACH, &mut attr).map(drop) }
}

/// The name of the program `id`. Needs CAP_SYS_ADMIN, unlike making and loading
/// programs, which CAP_BPF is enough for.
pub fn prog_name(id: u32) -> io::Result<String> {
    let fd = fd_by_id(PROG_GET_FD_BY_ID, id)?;
    let mut info = ProgInfo::default();
    get_info(&fd, &mut info)?;
    let len = info.name.iter().position(|b| *b == 0).unwrap_or(NAME_LEN);
    Ok(String::from_utf8_lossy(&info.name[..len]).into_owned())
}

/// The number of the link that holds program `prog_id` at interface `ifindex`,
/// if it is one of XDP's links. Needs CAP_SYS_ADMIN.
pub fn xdp_link_of(prog_id: u32, ifindex: u32) -> io::Result<Option<u32>> {
    let mut id = 0;
    while let Some(next) = next_link(id)? {
        id = next;
        // A link that went meanwhile is none.
        let Ok(fd) = fd_by_id(LINK_GET_FD_BY_ID, id) else {
            continue;
        };
        let mut info = LinkInfo::default();
        get_info(&fd, &mut info)?;
        let is_it =
            info.link_type == LINK_TYPE_XDP && info.prog_id == prog_id && info.ifindex == ifindex;
        if is_it {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The first link after number `id`.
fn next_link(id: u32) -> io::Result<Option<u32>> {
    let mut attr = GetId {
        id,
        ..GetId::default()
    };
    // SAFETY: GetId is this command's struct, and holds no address.
    match unsafe { bpf(LINK_GET_NEXT_ID, &mut attr) } {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

fn fd_by_id(command: libc::c_int, id: u32) -> io::Result<OwnedFd> {
    let mut attr = GetId {
        id,
        ..GetId::default()
    };
    // SAFETY: GetId is the struct of both commands that are given here, and
    // holds no address; both give a descriptor.
    unsafe { bpf_fd(command, &mut attr) }
}

/// A struct that the kernel may fill with any bytes.
///
/// # Safety
/// Every bit pattern is a valid value, and no field that is sent as zero is an
/// address that the kernel writes to.
unsafe trait Info: Default {}

// SAFETY: integers alone. Its addresses are sent as null, with lengths of 0.
unsafe impl Info for ProgInfo {}
// SAFETY: integers alone.
unsafe impl Info for LinkInfo {}

/// Reads the head of what the kernel knows of an object.
fn get_info<I: Info>(fd: &OwnedFd, info: &mut I) -> io::Result<()> {
    let mut attr = GetInfo {
        bpf_fd: fd.as_raw_fd() as u32,
        info_len: u32::try_from(std::mem::size_of::<I>()).unwrap_or(0),
        info: address_mut(info),
    };
    // SAFETY: the info lives over the call, is as long as said, and may hold
    // any bytes, as Info promises.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr).map(drop) }
}
