//! Logging in: what needs a person, from the first address to the token in the store.
//!
//! A [`LoginSessions`] has one login for each token at most. A browser's ends at a redirect listener of its own, a device's
//! goes on elsewhere while `device` asks; both end in [`Progress`], which `control` shows and the command line prints.
//! The protocol is `oauth`'s, the store and the token are `token`'s.

mod browser;
mod device;
mod login_sessions;
mod page;
mod paste;
mod progress;
mod redirect;
mod silent;

pub(crate) use login_sessions::{BeginError, LoginSessions};
pub(crate) use paste::PasteError;
pub(crate) use progress::{Progress, Stage, Step};
pub(crate) use silent::{Refusal, SilentError};
