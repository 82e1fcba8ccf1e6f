//! Reserved memory that can be given back page by page.
//!
//! A [`Region`] is an anonymous private mapping. Pages come into being when
//! they are first touched and can be given back with [`Region::discard`],
//! after which they read as zero. Frame pools, socket buffers and goroutine
//! stacks are cut from regions.
//!
//! The memory is reached through raw pointers only: who may touch which part
//! is the business of the owner above, which states it where it makes a slice.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};

/// Size of a page on every platform that Wirepath supports, in bytes.
pub const PAGE: usize = 4096;

/// An anonymous private mapping, unmapped on drop.
#[derive(Debug)]
pub struct Region {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a Region only owns the mapping's address range. It hands out a raw
// pointer and never dereferences it, so moving or sharing it between threads
// touches no memory.
unsafe impl Send for Region {}
// SAFETY: as for Send; all methods take `&self` and only make system calls on
// ranges that they check.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves `len` bytes, rounded up to whole pages. No memory is used until
    /// it is touched.
    ///
    /// # Errors
    /// `ENOMEM` when the address space or the mapping limit is used up, and
    /// `InvalidInput` when `len` is 0.
    pub fn reserve(len: usize) -> io::Result<Region> {
        let len = len
            .checked_next_multiple_of(PAGE)
            .filter(|len| *len > 0)
            .ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's
        // choosing aliases nothing.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        let base = NonNull::new(base.cast()).expect("mmap never returns a null mapping");
        let region = Region { base, len };
        // Huge pages would make one touched byte cost 2 MiB. A kernel without
        // them refuses the advice, which is as good.
        // SAFETY: the range is the mapping just made.
        let _ = unsafe { rustix::mm::madvise(base.as_ptr().cast(), len, Advice::LinuxNoHugepage) };
        Ok(region)
    }

    /// First byte of the region.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Length in bytes, a multiple of [`PAGE`].
    #[allow(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    fn checked(&self, range: &Range<usize>) -> io::Result<*mut core::ffi::c_void> {
        let whole = range.start.is_multiple_of(PAGE) && range.end.is_multiple_of(PAGE);
        if !whole || range.start > range.end || range.end > self.len {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: start <= len, so the pointer stays inside the mapping.
        Ok(unsafe { self.base.as_ptr().add(range.start) }.cast())
    }

    /// Gives the pages of `range` (bytes, page-aligned) back to the system;
    /// they read as zero when touched next.
    ///
    /// # Safety
    /// Nothing may hold a reference into the range, nor rely on its contents.
    ///
    /// # Errors
    /// `InvalidInput` for a range that is not whole pages of this region, or
    /// what madvise(2) gives.
    pub unsafe fn discard(&self, range: Range<usize>) -> io::Result<()> {
        let at = self.checked(&range)?;
        // SAFETY: the range lies inside the mapping; the caller promises that
        // nobody refers to it.
        unsafe { rustix::mm::madvise(at, range.len(), Advice::LinuxDontNeed)? };
        Ok(())
    }

    /// Makes `range` (bytes, page-aligned) inaccessible: touching it is a
    /// fault. Uses `MADV_GUARD_INSTALL` (Linux 6.13, no mapping of its own),
    /// or mprotect(2) where the kernel lacks it, which splits the mapping and
    /// so counts against `vm.max_map_count`.
    ///
    /// # Safety
    /// Nothing may hold a reference into the range.
    ///
    /// # Errors
    /// `InvalidInput` as for [`Region::discard`], or `ENOMEM` from mprotect
    /// when the process has too many mappings.
    pub unsafe fn guard(&self, range: Range<usize>) -> io::Result<Guard> {
        /// `MADV_GUARD_INSTALL` of asm-generic/mman-common.h.
        const MADV_GUARD_INSTALL: libc::c_int = 102;
        let at = self.checked(&range)?;
        // SAFETY: the range lies inside the mapping and nobody refers to it.
        if unsafe { libc::madvise(at, range.len(), MADV_GUARD_INSTALL) } == 0 {
            return Ok(Guard::Marker);
        }
        // SAFETY: as above.
        unsafe { rustix::mm::mprotect(at, range.len(), MprotectFlags::empty())? };
        Ok(Guard::Mapping)
    }
}

/// Gives the pages of many ranges of addresses back to the system, as
/// [`Region::discard`] does with one, by one process_madvise(2) for as many as
/// it takes. A kernel that does not allow that (before 6.13) is asked for each.
///
/// # Safety
/// The ranges are whole pages of regions; nothing holds a reference into them
/// or relies on their contents.
pub unsafe fn discard_many(ranges: &[Range<usize>]) {
    /// `UIO_MAXIOV` of linux/uio.h.
    const MOST: usize = 1024;
    for ranges in ranges.chunks(MOST) {
        // SAFETY: as the caller promises.
        if !unsafe { discard_at_once(ranges) } {
            for range in ranges {
                let at = std::ptr::with_exposed_provenance_mut(range.start);
                // SAFETY: as the caller promises. It may fail only for what is
                // no mapping.
                unsafe { libc::madvise(at, range.len(), libc::MADV_DONTNEED) };
            }
        }
    }
}

/// Whether the kernel did so.
///
/// # Safety
/// As for [`discard_many`].
unsafe fn discard_at_once(ranges: &[Range<usize>]) -> bool {
    // Opened each time: one that is kept would name the parent after a fork.
    let me = rustix::process::getpid();
    let Ok(me) = rustix::process::pidfd_open(me, rustix::process::PidfdFlags::empty()) else {
        return false;
    };
    let vector: Vec<libc::iovec> = ranges
        .iter()
        .map(|range| libc::iovec {
            iov_base: std::ptr::with_exposed_provenance_mut(range.start),
            iov_len: range.len(),
        })
        .collect();
    let whole: usize = ranges.iter().map(ExactSizeIterator::len).sum();
    // SAFETY: the vector lives through the call, which acts on this process's
    // ranges alone; the caller promises that nobody needs what is there.
    let done = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            me.as_raw_fd(),
            vector.as_ptr(),
            vector.len(),
            libc::MADV_DONTNEED,
            0,
        )
    };
    // A part done is done again, which changes nothing.
    usize::try_from(done) == Ok(whole)
}

/// How [`Region::guard`] made a range inaccessible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Markers in the page table, at no mapping of their own.
    Marker,
    /// A mapping of its own (two of the process's `vm.max_map_count`).
    Mapping,
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and whoever made slices of it holds the
        // Region, so none outlives this.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discard_gives_zeroes_back() {
        let region = Region::reserve(3 * PAGE - 1).unwrap();
        assert_eq!(region.len(), 3 * PAGE);
        let byte = region.base().as_ptr();
        // SAFETY: inside the region, and nothing else refers to it.
        unsafe {
            byte.write(7);
            region.discard(0..PAGE).unwrap();
            assert_eq!(byte.read(), 0);
        }
    }

    #[test]
    fn many_ranges_are_discarded_and_nothing_between() {
        let region = Region::reserve(3000 * PAGE).unwrap();
        let base = region.base().as_ptr();
        // SAFETY: inside the region, and nothing else refers to it.
        unsafe {
            (0..3000).for_each(|page| base.add(page * PAGE).write(7));
            let even = (0..3000).step_by(2);
            let ranges: Vec<Range<usize>> = even
                .map(|page| base.add(page * PAGE).expose_provenance())
                .map(|at| at..at + PAGE)
                .collect();
            discard_many(&ranges);
            for page in 0..3000 {
                let want = if page % 2 == 0 { 0 } else { 7 };
                assert_eq!(base.add(page * PAGE).read(), want, "page {page}");
            }
        }
    }

    #[test]
    fn ranges_outside_are_refused() {
        let region = Region::reserve(PAGE).unwrap();
        for range in [0..2 * PAGE, 1..PAGE, PAGE..2 * PAGE] {
            // SAFETY: nothing refers to the region.
            let got = unsafe { region.discard(range.clone()) };
            assert_eq!(
                got.unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{range:?}"
            );
        }
        assert!(Region::reserve(0).is_err());
    }
}
