//! What happens when a goroutine's stack is full: a message and an abort.
//!
//! Touching the guard below a stack is a `SIGSEGV`. The handler, on the
//! thread's alternate stack, looks whether the address lies in the guard of
//! the stack that this thread runs a goroutine on; any other fault goes to the
//! handler that was there before. It only reads memory that the thread itself
//! wrote before the fault, and calls write(2) and abort(3), which are
//! async-signal-safe.

use std::sync::Once;

use super::stack::GUARD;
use crate::m;

static mut PREVIOUS: std::mem::MaybeUninit<libc::sigaction> = std::mem::MaybeUninit::uninit();

/// Bytes of a thread's alternate stack.
const ALT_STACK: usize = 64 * 1024;

/// Installs the handler, once in a process.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all-zero is a valid sigaction; the handler is of the type
        // that SA_SIGINFO asks for; PREVIOUS is written here, once, before
        // any goroutine runs that could fault, and only read later.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                handle;
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigaction(libc::SIGSEGV, &action, (&raw mut PREVIOUS).cast());
        }
    });
}

/// Gives the calling thread an alternate signal stack, if it has none (Rust's
/// threads have one when the standard library watches their own guards).
pub(crate) fn this_thread() {
    // SAFETY: sigaltstack reads and writes the structs given; the memory that
    // it is told of is leaked, so it outlives the thread.
    unsafe {
        let mut old: libc::stack_t = std::mem::zeroed();
        libc::sigaltstack(std::ptr::null(), &mut old);
        if old.ss_flags & libc::SS_DISABLE != 0 {
            let memory: &'static mut [u8] = Vec::leak(vec![0; ALT_STACK]);
            let new = libc::stack_t {
                ss_sp: memory.as_mut_ptr().cast(),
                ss_flags: 0,
                ss_size: ALT_STACK,
            };
            libc::sigaltstack(&new, std::ptr::null_mut());
        }
    }
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid siginfo.
    let address = unsafe { (*info).si_addr() }.addr();
    if let Some(running) = m::running() {
        let (low, high) = running.stack;
        if (low - GUARD..low).contains(&address) {
            report(&running, high - low);
            // SAFETY: always.
            unsafe { libc::abort() };
        }
    }
    // SAFETY: PREVIOUS was written before the handler could run, and is what
    // sigaction(2) gave for this signal.
    unsafe { pass_on(signal, info, context) };
}

/// # Safety
/// Called in the handler, with its arguments.
unsafe fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: as said in `handle`.
    unsafe {
        let previous: *const libc::sigaction = (&raw const PREVIOUS).cast();
        let previous = &*previous;
        match previous.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                // The instruction faults again, and ends the process.
                libc::sigaction(signal, previous, std::ptr::null_mut());
            }
            handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
            handler => {
                let handler: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}

fn put(text: &[u8]) {
    // SAFETY: write(2) reads the bytes given.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

fn put_number(mut n: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return put(&digits[at..]);
        }
    }
}

fn report(running: &m::Running, size: usize) {
    put(b"goroutine ");
    put_number(running.id);
    if let Some(name) = running.name {
        put(b" (");
        put(name.as_bytes());
        put(b")");
    }
    put(b" overflowed its stack of ");
    put_number(size as u64 / 1024);
    put(b" KiB\nstarted at ");
    put(running.site.file().as_bytes());
    put(b":");
    put_number(u64::from(running.site.line()));
    put(b"\n");
}
