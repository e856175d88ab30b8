//! The program alone, a file per topic: what calls it and what it calls is in the test's own process, or is curl.
//!
//! Servers of these tests are origins that keep each byte (`cupbearer_testing::Origin`). Beside curl they need small
//! tools of Debian's: openssl, util-linux, Python, `nss_wrapper`.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage ends there")]
#![expect(clippy::print_stdout, reason = "figures, for runs that show the output")]

mod access;
mod addresses;
mod checked;
mod cli;
mod control;
mod crowd;
mod demo;
mod dialects;
mod fields;
mod files;
mod floods;
mod forwarded;
mod framing;
mod guard;
mod handshakes;
mod hiccups;
mod hostile;
mod kept;
mod keys;
mod limits;
mod process;
mod proofs;
mod providers;
mod readme;
mod refusals;
mod resets;
mod revoking;
mod rotation;
mod routes;
mod said;
mod stream_age;
