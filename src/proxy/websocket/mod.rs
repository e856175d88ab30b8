//! The handshake of a WebSocket or another upgrade, and the tunnel behind it.

pub(crate) mod farewell_timer;
pub(crate) mod frames;
pub(crate) mod handshake;
pub(crate) mod tunnel;
