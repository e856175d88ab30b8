//! The task of one HTTP/2 stream of a downstream connection: what hyper wants to be run for it, known to the connection's watch.
//! `connection` has hyper spawn by it.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::rt::Executor;
use pin_project_lite::pin_project;

use crate::proxy::downstream::activity::{StreamKey, Watch};

/// Spawns the tasks of one connection's streams, on the connection's worker.
#[derive(Clone, Debug)]
pub(super) struct StreamExecutor(pub(crate) Rc<Watch>);

/// A stream in its connection's watch. It leaves with the task, also where that is ended from outside.
struct OpenStream {
    watch: Rc<Watch>,
    key: StreamKey,
}

pin_project! {
    struct StreamTask<F> {
        // The first to be dropped: what it holds still belongs to the stream.
        #[pin]
        future: F,
        open: OpenStream,
    }
}

impl<F: Future<Output: 'static> + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        let streams = self.0.streams();
        let key = streams.open();
        let open = OpenStream { watch: Rc::clone(&self.0), key };
        streams.began(key, tokio::task::spawn_local(StreamTask { future, open }));
    }
}

impl<F: Future> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let streams = this.open.watch.streams();
        streams.enter(this.open.key);
        let polled = this.future.poll(cx);
        streams.leave();
        polled.map(|_| ())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.watch.streams().close(self.key);
    }
}
