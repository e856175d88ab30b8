//! A connection that a request uses, and which one will do.

use std::rc::Rc;

use hyper::client::conn::http2;

use crate::proxy::upstream::h1::Http1Connection;
use crate::proxy::upstream::metered::StreamPlace;
use crate::proxy::upstream::peer_settings::PeerSettings;
use crate::proxy::upstream::request_body::RequestBody;

/// A connection that one request may use.
#[derive(Debug)]
pub(crate) enum Connection {
    Http1 {
        wire: Http1Connection,
        age: ConnectionAge,
    },
    Http2 {
        sender: http2::SendRequest<RequestBody>,
        streams: Rc<StreamPlace>,
        number: u64,
        age: ConnectionAge,
        peer: PeerSettings,
        /// Keeps other requests off the connection while it lives.
        alone: Option<Rc<()>>,
    },
}

/// Whether other requests may be on the same connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    Shared,
    /// Not until the response begins. HTTP/2 alone: in HTTP/1.1 it is so anyway.
    Alone,
}

/// Whether a connection has carried a request before: then it may have died since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionAge {
    New,
    Reused,
}

/// Which connection will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Any.
    Any,
    /// One that was opened after that of this number, which has died.
    Newer(u64),
}
