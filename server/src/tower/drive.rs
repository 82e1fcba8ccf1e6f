//! Driving a service's futures from a goroutine, and its response onto the wire.
//!
//! A wake sets a flag besides waking the goroutine. The goroutine waits in
//! between for other things, as a client that is slow to read, and a wake that
//! came in such a wait would be lost with the goroutine's own token alone.

use std::cell::OnceCell;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Buf;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http_body::{Body, Frame};
use tower_service::Service;
use wirepath_runtime::block_on;
use wirepath_runtime::context::{Context as RequestContext, StopFunc};

use super::body::Lent;
use super::{Around, BoxError, RequestBody};
use crate::panic::AbortHandler;
use crate::request::Request;
use crate::response::{ResponseWriter, error};

/// Whether the future is to be polled, and who waits to do so.
#[derive(Default)]
struct Flag {
    woken: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Flag>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Flag>) {
        self.woken.store(true, Ordering::SeqCst);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = waiting.take();
        if let Some(goroutine) = waiting {
            goroutine.wake();
        }
    }
}

impl Flag {
    /// Waits for a wake since the last time.
    fn wait(&self) {
        block_on(poll_fn(|cx| {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            *waiting = Some(cx.waker().clone());
            drop(waiting);
            match self.woken.swap(false, Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
    }
}

/// Answers one request.
pub(super) struct Drive<'a> {
    flag: Arc<Flag>,
    waker: Waker,
    around: Option<&'a Around>,
    w: &'a mut ResponseWriter,
    r: &'a Request,
    lent: &'a Lent,
    /// The client's presence, once something was waited for.
    watch: OnceCell<Watch>,
}

/// Wakes the goroutine when nobody is left to answer.
struct Watch {
    context: RequestContext,
    stop: StopFunc,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

impl<'a> Drive<'a> {
    pub fn new(
        around: Option<&'a Around>,
        w: &'a mut ResponseWriter,
        r: &'a Request,
        lent: &'a Lent,
    ) -> Drive<'a> {
        let flag = Arc::new(Flag::default());
        Drive {
            waker: flag.clone().into(),
            flag,
            around,
            w,
            r,
            lent,
            watch: OnceCell::new(),
        }
    }

    fn watch(&self) -> Watch {
        let context = self.r.context().clone();
        let flag = self.flag.clone();
        Watch {
            stop: context.after_func(move || flag.wake()),
            context,
        }
    }

    /// Waits until the future is to be polled. When nobody is left to answer,
    /// the future is dropped where it waits, and the connection closed.
    fn wait(&self) {
        let watch = self.watch.get_or_init(|| self.watch());
        if watch.context.err().is_none() {
            self.flag.wait();
        }
        if watch.context.err().is_some() {
            resume_unwind(Box::new(AbortHandler));
        }
    }

    /// Polls once, in the context that was asked for.
    fn poll<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let mut cx = Context::from_waker(&self.waker);
        let Some(around) = self.around else {
            return poll(&mut cx);
        };
        let mut polled = Poll::Pending;
        let mut was_called = false;
        around(&mut || {
            was_called = true;
            polled = poll(&mut cx);
        });
        assert!(
            was_called,
            "around_each_poll did not call what it was given"
        );
        polled
    }

    fn run<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        loop {
            match self.poll(&mut poll) {
                Poll::Ready(done) => return done,
                Poll::Pending => self.wait(),
            }
        }
    }

    pub fn answer<S, B>(&mut self, mut service: S, request: http::Request<RequestBody>)
    where
        S: Service<http::Request<RequestBody>, Response = http::Response<B>>,
        S::Error: Into<BoxError>,
        B: Body,
        B::Error: Into<BoxError>,
    {
        let ready = self.run(|cx| service.poll_ready(cx));
        let response = ready.and_then(|()| {
            let mut future = pin!(service.call(request));
            self.run(|cx| future.as_mut().poll(cx))
        });
        match response {
            Ok(response) => self.respond(response),
            Err(e) => self.fail(&e.into()),
        }
    }

    fn respond<B>(&mut self, response: http::Response<B>)
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let (head, body) = response.into_parts();
        let mut body = pin!(body);
        let first = self.poll(|cx| body.as_mut().poll_frame(cx));
        if let Poll::Ready(Some(Err(e))) = first {
            return self.fail(&e.into());
        }
        let length = body.size_hint().exact().map(|rest| rest + data_len(&first));
        self.write_head(&head, length);
        let mut polled = first;
        loop {
            match polled {
                Poll::Ready(None) => return,
                Poll::Ready(Some(Ok(frame))) => {
                    if !self.write_frame(frame) {
                        return;
                    }
                }
                Poll::Ready(Some(Err(e))) => self.abort(&e.into()),
                Poll::Pending => {
                    if self.w.flush_now().is_err() {
                        return;
                    }
                    self.wait();
                }
            }
            polled = self.poll(|cx| body.as_mut().poll_frame(cx));
        }
    }

    fn write_head(&mut self, head: &http::response::Parts, length: Option<u64>) {
        for (name, value) in &head.headers {
            // How the body is framed, the server decides.
            if name == TRANSFER_ENCODING {
                continue;
            }
            if let Err(e) = self.w.append_header(name.as_str(), value.as_bytes()) {
                tracing::error!(%name, "response header left out: {e}");
            }
        }
        let is_framed =
            head.headers.contains_key(CONTENT_LENGTH) || head.headers.contains_key(TRAILER);
        if let Some(length) = length.filter(|&n| !is_framed && n > 0) {
            self.w.header("Content-Length", length.to_string());
        }
        self.lent
            .begin_response(|| self.w.write_header(head.status));
    }

    /// Whether the client may take more.
    fn write_frame<D: Buf>(&mut self, frame: Frame<D>) -> bool {
        match frame.into_data() {
            Ok(mut data) => {
                while data.has_remaining() {
                    let piece = data.chunk();
                    let n = piece.len();
                    if self.w.write_all(piece).is_err() {
                        return false;
                    }
                    data.advance(n);
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                for (name, value) in &trailers {
                    if let Err(e) = self.w.trailer(name.as_str(), value.as_bytes()) {
                        tracing::error!(%name, "response trailer left out: {e}");
                    }
                }
            }
        }
        true
    }

    fn fail(&mut self, e: &BoxError) {
        tracing::error!("the service failed: {e}");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let w = &mut *self.w;
        self.lent
            .begin_response(|| error(w, "Internal Server Error", status));
    }

    fn abort(&self, e: &BoxError) -> ! {
        tracing::error!("the response's body failed: {e}");
        resume_unwind(Box::new(AbortHandler))
    }
}

fn data_len<D: Buf, E>(polled: &Poll<Option<Result<Frame<D>, E>>>) -> u64 {
    match polled {
        Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, |d| d.remaining() as u64),
        _ => 0,
    }
}
