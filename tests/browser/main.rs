//! The program and Chromium: pages that call it, logins of a person, and the dashboard.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage ends there")]

mod browser;
mod dashboard;
mod frontends;
mod login;
mod spa;
mod terminal;
