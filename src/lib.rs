//! Cupbearer: a reverse-proxy sidecar that keeps OAuth 2.0 access tokens fresh and puts them on every request.
//!
//! The library is the program: [`cli::main`] is all of it that others call. What follows is for a reader of the source.
//!
//! # Rooms
//!
//! A room is a folder of `src/` with one noun. Imports go down only; `tests/house` has the law and judges it.
//!
//! | room | what it does | what it does not know |
//! |---|---|---|
//! | `cli` | one file per command; the only place that prints | how rooms fit together |
//! | `app` | settings to running components, reload, signals, the end | what a request or a grant is |
//! | `config` | the file as it is written, every check, the domain's settings | anything that runs |
//! | `health`, `control` | what the outside may read; what changes state, and the dashboard | the request path |
//! | `login` | a person's way through a browser or another device | when tokens are renewed |
//! | `proxy` | the request path | grants, stores, the configuration's file |
//! | `token` | when to renew, what renews, what a request sees of it | HTTP requests that pass through |
//! | `oauth` | what to send to an authorization server, what its responses mean | when |
//! | `webhook` | the admission webhook's server | what a pod is |
//! | `demo` | an authorization server and an API in process | the proxy |
//! | `net`, `telemetry`, `traces`, `metrics`, `lifecycle`, `secret`, `machine`, `clock` | the ground | all rooms |
//!
//! Two crates beside them take bytes and give bytes. `crates/h1` is HTTP/1.1 on the wire (RFC 9112): a client without
//! I/O of its own, and the judge of a request's framing. `crates/inject` is the sidecar in Kubernetes' manifests and
//! admission reviews.
//!
//! # One request
//!
//! All of it is in `proxy/`, whose layers import downwards alone: `listen`, `request`, `websocket`, `upstream`,
//! `downstream`, `observe`, `message`, `http2`, `memory`, `error`, `settings`.
//!
//! 1. `proxy/listen/worker.rs` accepts a connection; each worker is a thread with a runtime and connections of its
//!    own. `proxy/listen/accept.rs` looks at the peer and makes the TLS handshake.
//! 2. `proxy/listen/connection.rs` has hyper serve it (`proxy/listen/hyper_server.rs` sets each bound). Below hyper,
//!    `proxy/downstream/socket.rs` judges the framing of HTTP/1.1 (`cupbearer_h1::framing`), and
//!    `proxy/http2/request_heads.rs` that of HTTP/2.
//! 3. `proxy/request/handler.rs` is the request, in order. `proxy/request/admit.rs` judges its Host and target
//!    (`proxy/message/target.rs`, `proxy/message/path.rs`), finds its route (`proxy/request/route_table.rs`), and has
//!    the guard say whether it may use the token (`proxy/request/guard.rs`, with CORS in `proxy/request/cors.rs`).
//! 4. `proxy/request/own_credentials.rs` decides about credentials that the application sent.
//!    `proxy/request/credentials.rs` reads the token, without a lock, and puts it on. A route's limits
//!    (`proxy/request/limits.rs`) may make the request wait.
//! 5. `proxy/message/headers.rs` removes hop-by-hop fields; `proxy/message/forwarded.rs`, `proxy/message/via.rs` and
//!    `proxy/observe/trace.rs` add those of this hop.
//! 6. `proxy/request/sender.rs` takes a connection of `proxy/upstream/pool.rs`, or opens one
//!    (`proxy/upstream/connect.rs`), and sends (`proxy/upstream/attempt.rs`). The body streams through
//!    `proxy/upstream/replay_body.rs`, which keeps its beginning.
//! 7. `proxy/request/retry_policy.rs` says what follows a 401; `proxy/request/retry_unauthorized.rs` does it: one
//!    renewal, and the request once more where its body was kept.
//! 8. The response comes back through `proxy/request/rewrite.rs` (addresses) and `proxy/request/response_body.rs`.
//!    `proxy/downstream/exchange.rs` measures all of it, and `proxy/observe/access_log.rs` makes the line of the
//!    access log.
//!
//! # One token
//!
//! 1. `config/resolve/token.rs` makes `token::TokenSettings` of the file; `app/components.rs` hands it to the renewer.
//! 2. `token/renewer.rs` is one task for all tokens. `token/queue.rs` has the instants, `token/fair_share.rs` each
//!    server's share of the slots.
//! 3. `token/source/token_source.rs` is the way to one token: a grant at a server, a command, a file, a login
//!    (`token/source/build.rs` makes it). Sources that are stored look into `token/store/write_behind.rs` first.
//! 4. `oauth/endpoint.rs` makes the token request (`oauth/grant.rs`, `oauth/client.rs`) and reads the response. What is
//!    wrong with one is an `oauth::Error`, and whatever else fails a `token::Error` (`token/error.rs`): whose fault it is,
//!    whether to try again, a sentence for a person.
//! 5. `token/attempt.rs` makes the next `token::TokenState` of it, and `token/schedule.rs` the next instant: pure
//!    functions of facts, which the simulation runs through years in seconds.
//! 6. `token/handle.rs` is what requests, `/readyz`, `status` and the dashboard read: the state behind an `ArcSwap`.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | upstream | the protected API (Envoy's term) |
//! | downstream | the application's side |
//! | authorization server, grant, client | as RFC 6749 has them |
//! | route | a rule of host, path and method that leads to an upstream, with a token |
//! | guard | what a connection and a request must show before a token is near |
//! | renewal | a token request that replaces a token that is held; an attempt is one try of it |
//! | source | what a token comes from |
//! | store | what outlives a restart, and what processes share |
//! | class | of an error: transient, refused, misconfigured, a login needed |
//! | surface | a listener beside the proxy's: health, control |

mod app;
#[cfg(feature = "benching")]
pub mod benching;
pub mod cli;
mod clock;
mod config;
mod control;
#[cfg(feature = "demo")]
#[expect(dead_code, reason = "unit tests make its servers misbehave")]
mod demo;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod health;
mod lifecycle;
mod login;
mod machine;
mod metrics;
mod net;
mod oauth;
mod proxy;
mod secret;
mod telemetry;
mod token;
mod traces;
mod webhook;
