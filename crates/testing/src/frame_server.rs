//! An HTTP/2 API frame by frame: what no server's library would send goes out as a test writes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::frames::{ACK, Field, Frame, Frames, Outcome, PING, SETTINGS, frame};
use super::proxy::upstream_at;

/// The running API; it ends with this.
#[derive(Debug)]
pub struct FrameServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// What it does about a frame.
#[derive(Debug, Default)]
pub struct Reaction {
    pub bytes: Vec<u8>,
    /// What follows a moment later.
    pub later: Vec<u8>,
    /// Ends the connection.
    pub closes: bool,
}

impl From<Vec<u8>> for Reaction {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }
}

impl FrameServer {
    /// `react` gets the number of the connection, what it keeps of it, and each frame but SETTINGS and PING.
    pub async fn start<S: Default + Send + 'static>(
        settings: &'static [(u16, u32)],
        react: impl Fn(usize, &mut S, &Frame) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (react, connections) = (Arc::new(react), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (react, number) = (Arc::clone(&react), count.fetch_add(1, Ordering::SeqCst));
                tokio::spawn(async move {
                    let Some(mut frames) = Frames::accept(stream, settings).await else { return };
                    let mut state = S::default();
                    loop {
                        let next = match frames.next().await {
                            Ok(next) => next,
                            Err(Outcome::Silence) => continue,
                            Err(_) => return,
                        };
                        let Reaction { bytes, later, closes } = match next.kind {
                            SETTINGS if next.flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]).into(),
                            PING if next.flags & ACK == 0 => frame(PING, ACK, 0, &next.payload).into(),
                            SETTINGS | PING => Reaction::default(),
                            _ => react(number, &mut state, &next),
                        };
                        frames.send(&bytes).await;
                        if !later.is_empty() {
                            tokio::time::sleep(MOMENT).await;
                            frames.send(&later).await;
                        }
                        if closes {
                            frames.close().await;
                            return;
                        }
                    }
                });
            }
        });
        Self { address, connections, task }
    }

    /// The section of upstream `api`, open for more keys.
    pub fn upstream(&self) -> String {
        upstream_at(&format!("http://{}", self.address)) + "http2 = \"prior_knowledge\"\n"
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for FrameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Fields as they stand in a block.
pub fn fields(fields: &[(&str, &str)]) -> Vec<Field> {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

const MOMENT: Duration = Duration::from_millis(300);
