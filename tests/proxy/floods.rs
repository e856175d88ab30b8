//! Floods of frames and heads: a well-behaved client is served all the while, and memory stays bounded.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;

use cupbearer_testing::{
    PATIENCE, Reply, Stage, Wire, clock,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, block, frame, get, headers,
    },
};

/// What an attacker does over and over on a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flood {
    /// Requests taken back at once (CVE-2023-44487).
    RapidReset,
    /// Requests that the server has to take back, for the client breaks the rules (CVE-2025-8671).
    MadeYouReset,
    /// A head without end (CVE-2024-27316).
    Continuation,
    Settings,
    Ping,
    EmptyData,
    /// Windows of streams that are closed, and of the connection, that grow by a byte (RFC 9113 section 6.9).
    WindowUpdates,
    /// Resets of streams that are closed.
    Resets,
    /// Heads far above the limit.
    LargeHeads,
    /// A small field in the table, named thousands of times (RFC 7541 section 7.3).
    HpackBomb,
}

const FLOODS: [Flood; 10] = [
    Flood::RapidReset,
    Flood::MadeYouReset,
    Flood::Continuation,
    Flood::Settings,
    Flood::Ping,
    Flood::EmptyData,
    Flood::WindowUpdates,
    Flood::Resets,
    Flood::LargeHeads,
    Flood::HpackBomb,
];

impl Flood {
    /// What goes out in one go; `round` counts from 0.
    fn wave(self, host: &str, round: u32) -> Vec<u8> {
        let many = |one: &[u8]| one.repeat(100);
        let stream = |at: u32| round * 200 + 2 * at + 1;
        match self {
            Self::RapidReset => (0..100)
                .flat_map(|at| {
                    let head = headers(stream(at), END_STREAM, &get(host, "/"));
                    [head, frame(RST_STREAM, 0, stream(at), &8_u32.to_be_bytes())].concat()
                })
                .collect(),
            Self::MadeYouReset => (0..100)
                .flat_map(|at| {
                    let head = headers(stream(at), END_STREAM, &get(host, "/"));
                    [head, frame(WINDOW_UPDATE, 0, stream(at), &MOST.to_be_bytes())].concat()
                })
                .collect(),
            Self::Continuation if round == 0 => frame(HEADERS, END_STREAM, 1, &block(&get(host, "/"))),
            Self::Continuation => {
                many(&frame(CONTINUATION, 0, 1, &block(&[(b"x-a".to_vec(), vec![b'a'; 1000])])))
            }
            Self::Settings => many(&frame(SETTINGS, 0, 0, &[])),
            Self::Ping => many(&frame(PING, 0, 0, &[0; 8])),
            Self::EmptyData if round == 0 => {
                let mut head = get(host, "/");
                head[0].1 = b"POST".to_vec();
                headers(1, 0, &head)
            }
            Self::EmptyData => many(&frame(DATA, 0, 1, &[])),
            Self::WindowUpdates | Self::Resets if round == 0 => headers(1, END_STREAM, &get(host, "/")),
            Self::WindowUpdates => {
                let by_one = 1_u32.to_be_bytes();
                let both = [frame(WINDOW_UPDATE, 0, 1, &by_one), frame(WINDOW_UPDATE, 0, 0, &by_one)];
                many(&both.concat())
            }
            Self::Resets => many(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())),
            Self::LargeHeads => {
                let mut head = get(host, "/");
                head.extend((0..200).map(|at| (format!("x-{at}").into_bytes(), vec![b'a'; 400])));
                headers(2 * round + 1, END_STREAM, &head)
            }
            Self::HpackBomb => {
                let mut head = block(&get(host, "/"));
                // A literal of 4,000 bytes into the table, and then its index as often as a frame takes.
                head.extend([0x40, 1, b'x', 127, 0xa1, 0x1e]);
                head.extend(vec![b'a'; 4000]);
                head.extend(vec![0xbe; 10_000]);
                frame(HEADERS, END_STREAM | END_HEADERS, 2 * round + 1, &head)
            }
        }
    }

    /// Whether whoever does it is cut off; the others are served, each in turn.
    const fn is_ended(self) -> bool {
        !matches!(self, Self::LargeHeads | Self::HpackBomb)
    }

    /// Floods until the connection is ended or the time is up; whether it was ended.
    async fn run(self, address: SocketAddr, host: &str) -> bool {
        let start = clock::now();
        let mut connection = Frames::connect(address, &[]).await;
        let mut round = 0;
        while start.elapsed() < if self.is_ended() { PATIENCE } else { LENGTH } {
            // What comes back is read only where there is room for nothing more: an attacker does not care.
            if !connection.send(&self.wave(host, round)).await {
                return true;
            }
            round += 1;
            tokio::task::yield_now().await;
        }
        false
    }
}

/// Requests one after another, each on its own connection: the slowest.
async fn well_behaved(stage: &Stage) -> (usize, Duration) {
    let (start, mut count, mut slowest) = (clock::now(), 0, Duration::ZERO);
    while start.elapsed() < LENGTH {
        let sent = clock::now();
        assert_eq!(
            stage.proxy.exchange("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").await.unwrap().status(),
            200
        );
        slowest = slowest.max(sent.elapsed());
        count += 1;
    }
    (count, slowest)
}

#[tokio::test]
async fn a_flood_costs_bounded_memory_and_nobody_elses_requests() {
    let mut wrong = Vec::new();
    for flood in FLOODS {
        let stage = Stage::plain().await;
        let (address, host) = (stage.proxy.listen(), stage.proxy.listen().to_string());
        let attackers = join_all((0..8).map(|_| flood.run(address, &host)));
        let (before, _) = well_behaved(&stage).await;
        let (ended, (count, slowest)) = tokio::join!(attackers, well_behaved(&stage));
        let ended = ended.iter().filter(|ended| **ended).count();
        let memory = stage.proxy.program().peak_memory_kib() / 1024;
        println!(
            "{flood:?}: {ended} of 8 ended, {count} requests served ({before} before), the slowest in {slowest:?}, {memory} MiB"
        );
        let starved = count * 100 < before;
        if memory > MEMORY_MIB || (flood.is_ended() && ended < 8) || starved {
            wrong.push(format!("{flood:?}: {ended} ended, {count} of {before} served, {memory} MiB"));
        }
        assert!(!stage.proxy.log().contains("panicked"), "{}", stage.proxy.log());
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn who_never_reads_costs_little_and_holds_up_nobody() {
    let large = "x".repeat(8 * 1024 * 1024);
    let stage = Stage::answering(move |request, _| {
        if request.target() == "/large" { Reply::new(200, &[], &large) } else { Reply::ok() }
    })
    .await;
    let host = stage.proxy.listen().to_string();
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut wire: Wire = stage.proxy.wire().await;
        wire.send(format!("GET /large HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        idle.push(wire);
    }
    let mut shut = Vec::new();
    for _ in 0..20 {
        // A window of nothing (RFC 9113 section 6.9.2).
        let mut connection = Frames::connect(stage.proxy.listen(), &[(4, 0)]).await;
        for stream in [1, 3, 5, 7, 9] {
            connection.send(&headers(stream, END_STREAM, &get(&host, "/large"))).await;
        }
        shut.push(connection);
    }
    let (count, slowest) = well_behaved(&stage).await;
    let memory = stage.proxy.program().peak_memory_kib() / 1024;
    println!("never read: {count} requests served, the slowest in {slowest:?}, {memory} MiB");
    assert!(memory < 2 * MEMORY_MIB, "{memory} MiB");
    drop((idle, shut));
}

const LENGTH: Duration = Duration::from_secs(2);
/// More than any window has room for beside what it has from the start (RFC 9113 section 6.9.1).
const MOST: u32 = 0x7fff_ffff;
/// For a program built for tests; far above what it takes.
const MEMORY_MIB: u64 = 160;
