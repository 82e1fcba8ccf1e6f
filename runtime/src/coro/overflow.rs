//! What happens when a goroutine's stack is full: a message and an abort.
//!
//! Touching the guard below a stack is a `SIGSEGV`. The handler, on the
//! thread's alternate stack, looks whether the address lies in the guard of
//! the stack that this thread runs a goroutine on; any other fault goes to the
//! handler that was there before.
//!
//! The message is written first. For that the handler only reads memory that
//! the thread itself wrote before the fault, and calls write(2), which is
//! async-signal-safe. The backtrace after it is an attempt: the unwinder and
//! the reader of symbols promise nothing in a handler. If they fault, or wait
//! for a lock that the goroutine holds, the process ends without the rest.

use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

use wirepath_driver::region::Region;

use super::stack::GUARD;
use crate::m;

static mut PREVIOUS: std::mem::MaybeUninit<libc::sigaction> = std::mem::MaybeUninit::uninit();

/// Bytes of a thread's alternate stack: enough to look up symbols on. Only what
/// is touched exists.
const ALT_STACK: usize = 1 << 20;

/// Frames that a report shows.
const FRAMES: usize = 48;

/// Seconds that the report may take, before the process ends without the rest.
const PATIENCE: libc::c_uint = 10;

/// The thread that reports, 0 before.
static REPORTER: AtomicI32 = AtomicI32::new(0);

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

/// The calling thread's alternate signal stack, until it is dropped.
pub(crate) struct AltStack {
    before: libc::stack_t,
    _memory: Region,
}

impl AltStack {
    /// Takes the place of the one that the standard library may have given the
    /// thread, which is too small for a backtrace. None where there is no
    /// memory for it: then reports are cut short.
    pub(crate) fn install() -> Option<AltStack> {
        let memory = Region::reserve(ALT_STACK).ok()?;
        let new = libc::stack_t {
            ss_sp: memory.base().as_ptr().cast(),
            ss_flags: 0,
            ss_size: memory.len(),
        };
        // SAFETY: sigaltstack reads and writes the structs given; the memory
        // that it is told of lives until the drop takes it away again.
        let before = unsafe {
            let mut before: libc::stack_t = std::mem::zeroed();
            (libc::sigaltstack(&raw const new, &raw mut before) == 0).then_some(before)?
        };
        Some(AltStack {
            before,
            _memory: memory,
        })
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        // SAFETY: what was there before is the standard library's, which keeps
        // it until the thread's end.
        unsafe { libc::sigaltstack(&raw const self.before, std::ptr::null_mut()) };
    }
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid siginfo.
    let address = unsafe { (*info).si_addr() }.addr();
    if let Some(running) = m::running() {
        let (low, high) = running.stack;
        if (low - GUARD..low).contains(&address) {
            // SAFETY: the kernel gives a valid context.
            overflowed(&running, high - low, unsafe { interrupted(context) });
        }
        if REPORTER.load(Ordering::Relaxed) == this_thread() {
            cut_short();
        }
    }
    // SAFETY: PREVIOUS was written before the handler could run, and is what
    // sigaction(2) gave for this signal.
    unsafe { pass_on(signal, info, context) };
}

extern "C" fn out_of_patience(_: libc::c_int) {
    put(b"(the rest of the backtrace could not be had in time)\n");
    // SAFETY: always.
    unsafe { libc::abort() };
}

fn this_thread() -> libc::pid_t {
    // SAFETY: always.
    unsafe { libc::gettid() }
}

/// The report itself faulted.
fn cut_short() -> ! {
    put(b"(the rest of the backtrace could not be had)\n");
    // SAFETY: always.
    unsafe { libc::abort() };
}

/// Tells what happened, and after that, where: only the first is sure to come
/// out. The first thread that comes here ends the process.
fn overflowed(running: &m::Running, size: usize, at: Option<usize>) -> ! {
    let me = this_thread();
    match REPORTER.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => report(running, size),
        Err(other) if other == me => cut_short(),
        Err(_) => loop {
            // SAFETY: pause(2) waits for a signal.
            unsafe { libc::pause() };
        },
    }
    // The symbols' reader allocates, and the goroutine may have been in the
    // middle of that, with its lock held.
    // SAFETY: the handler is of the type that signal(2) asks for.
    unsafe {
        let handler: extern "C" fn(libc::c_int) = out_of_patience;
        libc::signal(libc::SIGALRM, handler as libc::sighandler_t);
        libc::alarm(PATIENCE);
    }
    backtrace(at);
    // SAFETY: always.
    unsafe { libc::abort() }
}

/// The address of the instruction that faulted, where it is known how to find
/// it.
///
/// # Safety
/// `context` is what the handler was given.
unsafe fn interrupted(context: *mut libc::c_void) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it is a ucontext_t, as SA_SIGINFO promises.
    return unsafe {
        let context = &*context.cast::<libc::ucontext_t>();
        Some(context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize)
    };
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// Prints the stack of the code that was interrupted at `at`: first its
/// addresses, then their names.
fn backtrace(at: Option<usize>) {
    let mut frames = [std::ptr::null_mut(); FRAMES];
    let mut number = 0;
    // SAFETY: the crate's lock is left alone, whose holder may be who was
    // interrupted; this thread alone reports.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            if at == Some(frame.ip().addr()) {
                // Those before are the handler's.
                number = 0;
            }
            if number < FRAMES {
                frames[number] = frame.ip();
            }
            number += 1;
            // A few more, in which the interrupted one may still come.
            number < FRAMES + 8
        });
    }
    let frames = &frames[..number.min(FRAMES)];
    put(b"backtrace, its last calls first:\n");
    for ip in frames {
        put_address(ip.addr());
    }
    put(b"\n");
    for (i, ip) in frames.iter().enumerate() {
        // SAFETY: as above.
        unsafe { backtrace::resolve_unsynchronized(*ip, |symbol| put_symbol(i, symbol)) };
    }
    if number > FRAMES {
        put(b"  and so on\n");
    }
}

/// Standard error, for formatting.
struct Stderr;

impl std::fmt::Write for Stderr {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        put(text.as_bytes());
        Ok(())
    }
}

fn put_symbol(number: usize, symbol: &backtrace::Symbol) {
    use std::fmt::Write;
    let Some(name) = symbol.name() else { return };
    let _ = write!(Stderr, "  {number:2}: {name:#}");
    if let (Some(file), Some(line)) = (symbol.filename(), symbol.lineno()) {
        let _ = write!(Stderr, "\n      at {}:{line}", file.display());
    }
    put(b"\n");
}

fn put_address(address: usize) {
    use std::fmt::Write;
    let _ = write!(Stderr, " {address:#x}");
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
