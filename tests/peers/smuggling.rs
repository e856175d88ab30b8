//! A corpus of malformed and ambiguous requests (`tests/corpus`), sent to three origins with different parsers.
//!
//! The proxy refuses each, and then no origin saw any of it; or it forwards it, and then each origin saw exactly the
//! request that the proxy judged, with one token. A request behind it on the same connection is never swallowed and
//! never run as something else.

use std::cell::Cell;
use std::time::Duration;

use cupbearer_testing::{
    CREDENTIALS, Case, Config, Expect, Line, Origin, Proxy, Record, Recorder,
    frames::{self, END_STREAM, Frames, Outcome},
};
use cupbearer_testing::{corpus, token_at, upstream_at};

/// A proxy, and what is behind it.
struct Course {
    origin: Recorder,
    proxy: Proxy,
    /// Whether the case before this one was broken off.
    broke: Cell<bool>,
    _server: Origin,
}

/// What came of all cases on one course.
#[derive(Default)]
struct Sum {
    refused: usize,
    forwarded: usize,
    broken: usize,
    faults: Vec<String>,
}

impl Course {
    async fn to(origin: Recorder) -> Self {
        let server = Origin::issuing(3600).await;
        let config = Config::one_route(&upstream_at(&origin.url()), &token_at(&server.url()));
        Self { origin, proxy: Proxy::start(config).await, broke: Cell::new(false), _server: server }
    }

    fn host(&self) -> String {
        self.proxy.listen().to_string()
    }

    /// Waits until the origin has said `count` things since `from`, and returns them all.
    async fn seen(&self, from: usize, count: usize) -> Vec<Record> {
        for _ in 0..100 {
            let seen = self.origin.seen();
            if seen[from..].iter().filter(|record| **record != Record::Aborted).count() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.origin.seen().split_off(from)
    }

    /// Waits until a refusal by the origin itself is on record, which is not looked at.
    async fn settle(&self, from: usize) {
        self.seen(from, 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// Compares what the origin saw with what it should have.
    async fn compare(&self, case: &Case, from: usize, innocent: bool, faults: &mut Vec<String>) {
        let mut fault = |what: String| faults.push(format!("{} ({}): {what}", case.name, self.origin.name));
        let mut wanted: Vec<(&str, &str, &str)> = Vec::new();
        if let Expect::Forwarded { method, target, body } = &case.expect {
            wanted.push((method, target, body));
        }
        if innocent {
            wanted.push(("GET", INNOCENT, ""));
        }
        let mut seen = self.seen(from, wanted.len()).await;
        // An origin may notice that a request broke off only as the next one comes.
        if self.broke.replace(matches!(case.expect, Expect::Broken)) || matches!(case.expect, Expect::Broken)
        {
            seen.retain(|record| *record != Record::Aborted);
        }
        let mut found: Vec<(&str, &str, &str)> = seen
            .iter()
            .map(|record| match record {
                Record::Request { method, target, body, .. } => (&method[..], &target[..], &body[..]),
                Record::Malformed(reason) => ("malformed", &reason[..], ""),
                Record::Aborted => ("aborted", "", ""),
            })
            .collect();
        // Two streams of HTTP/2 may overtake each other.
        found.sort_unstable();
        wanted.sort_unstable();
        if found != wanted {
            return fault(format!("the origin saw {found:?} instead of {wanted:?}"));
        }
        for record in &seen {
            if record.all("authorization") != [CREDENTIALS] {
                fault(format!("not one token: {record:?}"));
            }
            if record.all("host") != [self.origin.authority()] {
                fault(format!("another Host: {record:?}"));
            }
        }
        let Expect::Forwarded { target, .. } = &case.expect else { return };
        // The innocent one may have overtaken it.
        let is_it = |record: &&Record| matches!(record, Record::Request { target: of, .. } if of == target);
        let Some(first) = seen.iter().find(is_it) else { return };
        for (name, value) in &case.saw {
            if first.all(name) != [value] {
                fault(format!("{name} is {:?} and not {value:?}", first.all(name)));
            }
        }
        for name in &case.not {
            if !first.all(name).is_empty() {
                fault(format!("{name} got through"));
            }
        }
    }

    async fn http1(&self, case: &Case, sum: &mut Sum) {
        let from = self.origin.seen().len();
        let mut request = Vec::new();
        for line in &case.lines {
            let Line::Bytes(bytes) = line else { panic!("{}: a line of HTTP/2", case.name) };
            request.extend_from_slice(bytes);
        }
        let method = if request.starts_with(b"HEAD ") { "HEAD" } else { "GET" };
        let large = request.len() > 32 * 1024;
        if !case.alone {
            request.extend(format!("GET {INNOCENT} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host()).as_bytes());
        }
        let mut wire = self.proxy.wire().await;
        wire.send(&request).await;
        let status = wire.status(method).await;
        let mut faults = Vec::new();
        let mut fault = |what: String| faults.push(format!("{} ({}): {what}", case.name, self.origin.name));
        let innocent = match &case.expect {
            Expect::Refused { statuses, open } => {
                sum.refused += 1;
                // Where much is left unread, a reset may overtake the answer.
                let lost = large && status == 0;
                if !lost && !statuses.contains(&status) {
                    fault(format!("{status} instead of {statuses:?}"));
                }
                let next = if *open { wire.status("GET").await } else { 0 };
                if !*open && !wire.closes(END).await {
                    fault("the connection stays open".to_owned());
                }
                next == 200
            }
            Expect::Broken => {
                sum.broken += 1;
                if ![0, 400].contains(&status) {
                    fault(format!("{status} instead of an end"));
                }
                if !wire.closes(END).await {
                    fault("the connection stays open".to_owned());
                }
                false
            }
            Expect::Forwarded { .. } if case.unread_by.iter().any(|name| name == self.origin.name) => {
                return self.settle(from).await;
            }
            Expect::Forwarded { .. } => {
                sum.forwarded += 1;
                let next = if case.alone { 200 } else { wire.status("GET").await };
                if (status, next) != (200, 200) {
                    fault(format!("{status} and {next} instead of 200 and 200"));
                }
                !case.alone
            }
        };
        self.compare(case, from, innocent, &mut faults).await;
        sum.faults.append(&mut faults);
    }

    async fn http2(&self, case: &Case, sum: &mut Sum) {
        let from = self.origin.seen().len();
        let mut connection = Frames::connect(self.proxy.listen(), &[(SETTINGS_HEADER_TABLE_SIZE, 0)]).await;
        let mut bytes = written(case);
        bytes.extend(frames::headers(3, END_STREAM, &frames::get(&self.host(), INNOCENT)));
        connection.send(&bytes).await;
        let outcomes = connection.outcomes(&[1, 3]).await;
        let (outcome, next) = (outcomes[0], outcomes[1]);
        let mut faults = Vec::new();
        let mut fault = |what: String| faults.push(format!("{} ({}): {what}", case.name, self.origin.name));
        let says_no = match outcome {
            Outcome::Status(status) => (400..500).contains(&status),
            Outcome::Reset(_) | Outcome::Ended(_) => true,
            Outcome::Silence => false,
        };
        if case.unread_by.iter().any(|name| name == self.origin.name) {
            // Its refusal is on record, and not looked at.
            return self.settle(from).await;
        }
        let expected = match &case.expect {
            Expect::Refused { .. } => {
                sum.refused += 1;
                says_no
            }
            Expect::Broken => {
                sum.broken += 1;
                says_no
            }
            Expect::Forwarded { .. } => {
                sum.forwarded += 1;
                outcome == Outcome::Status(200)
            }
        };
        if !expected {
            fault(format!("{outcome:?}"));
        }
        let lived = next == Outcome::Status(200);
        if !(lived || (says_no && matches!(next, Outcome::Ended(_)))) {
            fault(format!("the request behind it: {next:?}"));
        }
        self.compare(case, from, lived, &mut faults).await;
        sum.faults.append(&mut faults);
    }
}

/// A case's frames, on stream 1.
fn written(case: &Case) -> Vec<u8> {
    let (mut head, mut data, mut trailers) = (Vec::new(), Vec::new(), Vec::new());
    for line in &case.lines {
        match line {
            Line::Field(name, value) => head.push((name.clone(), value.clone())),
            Line::Data(bytes) => data.push(bytes),
            Line::Trailer(name, value) => trailers.push((name.clone(), value.clone())),
            Line::Bytes(_) => panic!("{}: a line of HTTP/1.1", case.name),
        }
    }
    let end = |last: bool| if last { END_STREAM } else { 0 };
    let mut bytes = frames::headers(1, end(data.is_empty() && trailers.is_empty()), &head);
    for (at, piece) in data.iter().enumerate() {
        let last = at + 1 == data.len() && trailers.is_empty();
        bytes.extend(frames::frame(frames::DATA, end(last), 1, piece));
    }
    if !trailers.is_empty() {
        bytes.extend(frames::headers(1, END_STREAM, &trailers));
    }
    bytes
}

/// The three origins, each behind a proxy of its own.
async fn courses(folder: &str) -> [Course; 3] {
    let mut names: Vec<String> = vec!["authorization".to_owned(), "host".to_owned()];
    for case in corpus(folder, "x") {
        names.extend(case.saw.into_iter().map(|(name, _)| name).chain(case.not));
    }
    names.sort();
    names.dedup();
    [
        Course::to(Recorder::nginx(&names).await).await,
        Course::to(Recorder::node().await).await,
        Course::to(Recorder::raw().await).await,
    ]
}

/// Fails with all that went wrong; else prints what was done.
fn conclude(folder: &str, sums: [Sum; 3]) {
    let [refused, broken, forwarded] = [
        sums.iter().map(|sum| sum.refused).sum::<usize>(),
        sums.iter().map(|sum| sum.broken).sum(),
        sums.iter().map(|sum| sum.forwarded).sum(),
    ];
    let cases = corpus(folder, "x").len();
    println!(
        "{folder}: {cases} cases to 3 origins: {refused} refused, {broken} broken off, {forwarded} forwarded as judged"
    );
    let faults: Vec<String> = sums.into_iter().flat_map(|sum| sum.faults).collect();
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test]
async fn nothing_ambiguous_in_http_1_reaches_an_origin_as_anything_else() {
    let courses = courses("h1").await;
    let sums = futures_util::future::join_all(courses.iter().map(|course| async {
        let mut sum = Sum::default();
        for case in corpus("h1", &course.host()) {
            course.http1(&case, &mut sum).await;
        }
        sum
    }))
    .await;
    conclude("h1", sums.try_into().ok().unwrap());
}

#[tokio::test]
async fn nothing_malformed_in_http_2_becomes_http_1() {
    let courses = courses("h2").await;
    let sums = futures_util::future::join_all(courses.iter().map(|course| async {
        let mut sum = Sum::default();
        for case in corpus("h2", &course.host()) {
            course.http2(&case, &mut sum).await;
        }
        sum
    }))
    .await;
    conclude("h2", sums.try_into().ok().unwrap());
}

#[test]
fn the_corpus_is_as_large_as_promised() {
    let (http1, http2) = (corpus("h1", "x").len(), corpus("h2", "x").len());
    println!("{http1} cases of HTTP/1.1, {http2} of HTTP/2");
    assert!(http1 >= 300 && http2 >= 100, "{http1} and {http2}");
}

/// The target of the request behind each case.
const INNOCENT: &str = "/innocent";

/// How long the proxy may take to end a connection.
const END: Duration = Duration::from_secs(5);

const SETTINGS_HEADER_TABLE_SIZE: u16 = 1;
