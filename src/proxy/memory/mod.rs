//! The memory that requests may cost, bounded by `server.memory_limit`.
//!
//! Two figures are kept, and the larger one counts: the named costs of the connections and requests that are open, which are
//! known before the memory is taken, with the bodies that are kept for another sending; and the memory that the process has
//! beyond what it had at its start, which includes everything that has no name: HTTP/2 windows, half-read heads, buffers.
//!
//! The limit is approached in steps: kept bodies are given up first, then new requests are refused, then new
//! connections wait, then those wait that are accepted and not served yet, and at last reading pauses. So whatever waits does so
//! for something that is further on, and what is under way comes to its end. What has no name, above all data that its reader
//! does not take, has a part of the budget: so there is always room for requests beside it. Each worker counts
//! for itself and looks at the whole only after a step's worth of memory, so a request costs no shared write.

mod charge;
mod heads;
mod kept;
mod metrics;
mod process;
mod relief;
mod share;
mod turn;

pub(crate) use charge::{COPIES, Charge, Room, connection, request, served};
pub(crate) use heads::{HeadRoom, wrote};
pub(crate) use kept::KeptBody;
pub(crate) use metrics::{Limited, MemoryMetrics};
pub(crate) use relief::{Relief, look_around, relief, want};
pub(crate) use share::{
    RequestMemory, SMALL_READ, WaitingFor, enter, is_short, limited, may_read, read, room_to_read, started,
};
pub(crate) use turn::{decoded, poll_turn};
