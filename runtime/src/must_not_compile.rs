//! What the compiler must refuse, since it alone keeps goroutines sound.
//!
//! Each program is there twice: once as it must not compile, once with the one
//! change that makes it do, so that it is refused for no other reason.
//!
//! A closure that captures what is not `Send`:
//! ```
//! # use wirepath_runtime::{Runtime, go}; use std::sync::Arc;
//! # fn f() {
//! let one = Arc::new(1);
//! go(move || *one);
//! # }
//! ```
//! ```compile_fail,E0277
//! # use wirepath_runtime::{Runtime, go}; use std::rc::Rc;
//! # fn f() {
//! let one = Rc::new(1);
//! go(move || *one);
//! # }
//! ```
//!
//! The same through the other doors, [`crate::Runtime::run`],
//! [`crate::Handle::go`]:
//! ```
//! # use wirepath_runtime::Runtime; use std::sync::Arc;
//! # fn f(rt: Runtime) {
//! # let (one, two, three) = (Arc::new(1), Arc::new(1), Arc::new(1));
//! rt.run(move || *one);
//! rt.go(move || *two);
//! rt.handle().go(move || *three);
//! # }
//! ```
//! ```compile_fail,E0277
//! # use wirepath_runtime::Runtime; use std::rc::Rc;
//! # fn f(rt: Runtime) {
//! # let one = Rc::new(1);
//! rt.run(move || *one);
//! # }
//! ```
//! ```compile_fail,E0277
//! # use wirepath_runtime::Runtime; use std::rc::Rc;
//! # fn f(rt: Runtime) {
//! # let two = Rc::new(1);
//! rt.go(move || *two);
//! # }
//! ```
//! ```compile_fail,E0277
//! # use wirepath_runtime::Runtime; use std::rc::Rc;
//! # fn f(rt: Runtime) {
//! # let three = Rc::new(1);
//! rt.handle().go(move || *three);
//! # }
//! ```
//!
//! A lock's guard, which must be given back on its own thread:
//! ```
//! # use wirepath_runtime::go; use std::sync::Mutex;
//! static LOCK: Mutex<u8> = Mutex::new(0);
//! # fn f() {
//! go(move || {
//!     let guard = LOCK.lock().unwrap();
//!     *guard
//! });
//! # }
//! ```
//! ```compile_fail,E0277
//! # use wirepath_runtime::go; use std::sync::Mutex;
//! static LOCK: Mutex<u8> = Mutex::new(0);
//! # fn f() {
//! let guard = LOCK.lock().unwrap();
//! go(move || {
//!     *guard
//! });
//! # }
//! ```
//!
//! A result that is not `Send`, which would come out on another thread:
//! ```
//! # use wirepath_runtime::go; use std::sync::Arc;
//! # fn f() {
//! go(|| Arc::new(1));
//! # }
//! ```
//! ```compile_fail,E0277
//! # use wirepath_runtime::go; use std::rc::Rc;
//! # fn f() {
//! go(|| Rc::new(1));
//! # }
//! ```
//!
//! A borrow of what may be gone before the goroutine is:
//! ```
//! # use wirepath_runtime::go;
//! # fn f() {
//! let here = String::new();
//! go(move || here.len());
//! # }
//! ```
//! ```compile_fail,E0373
//! # use wirepath_runtime::go;
//! # fn f() {
//! let here = String::new();
//! go(|| here.len());
//! # }
//! ```
//! ```compile_fail,E0597
//! # use wirepath_runtime::{Next, steps};
//! # fn f() {
//! let here = String::new();
//! steps(&here, |_| Next::Done);
//! # }
//! ```
//!
//! A state of steps that is not `Send`:
//! ```
//! # use wirepath_runtime::{Next, steps}; use std::sync::Arc;
//! # fn f() {
//! steps(Arc::new(1), |_| Next::Done);
//! # }
//! ```
//! ```compile_fail,E0277
//! # use wirepath_runtime::{Next, steps}; use std::rc::Rc;
//! # fn f() {
//! steps(Rc::new(1), |_| Next::Done);
//! # }
//! ```
//! ```compile_fail,E0277
//! # use wirepath_runtime::{Next, Runtime}; use std::rc::Rc;
//! # fn f(rt: Runtime) {
//! rt.steps(Rc::new(1), |_| Next::Done);
//! # }
//! ```
//!
//! A state that only comes to hold such a thing in the middle of a step:
//! ```
//! # use wirepath_runtime::{Next, steps}; use std::sync::Arc;
//! # fn f() {
//! steps(None, |kept| {
//!     *kept = Some(Arc::new(1));
//!     Next::Yield
//! });
//! # }
//! ```
//! ```compile_fail,E0277
//! # use wirepath_runtime::{Next, steps}; use std::rc::Rc;
//! # fn f() {
//! steps(None, |kept| {
//!     *kept = Some(Rc::new(1));
//!     Next::Yield
//! });
//! # }
//! ```
//!
//! A guard that a step leaves in the state for the next one:
//! ```compile_fail,E0277
//! # use wirepath_runtime::{Next, steps}; use std::sync::Mutex;
//! static LOCK: Mutex<u8> = Mutex::new(0);
//! # fn f() {
//! steps(None, |kept| {
//!     *kept = Some(LOCK.lock().unwrap());
//!     Next::Yield
//! });
//! # }
//! ```
//!
//! A step that captures what is not `Send`:
//! ```
//! # use wirepath_runtime::{Next, steps}; use std::sync::Arc;
//! # fn f() {
//! let one = Arc::new(1);
//! steps(0, move |n| {
//!     *n += *one;
//!     Next::Done
//! });
//! # }
//! ```
//! ```compile_fail,E0277
//! # use wirepath_runtime::{Next, steps}; use std::rc::Rc;
//! # fn f() {
//! let one = Rc::new(1);
//! steps(0, move |n| {
//!     *n += *one;
//!     Next::Done
//! });
//! # }
//! ```
