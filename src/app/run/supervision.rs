//! What the service manager gives the program, and what it is told of it.

use std::time::Duration;

use super::App;
use crate::health::Readiness;
use crate::lifecycle::ServiceManager;
use crate::net::activation::Passed;

/// The service manager's side of a program; the default: none has started it.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    /// The sockets that it listens on for the program.
    pub passed: Passed,
    /// Where it takes messages.
    pub manager: ServiceManager,
}

impl App {
    /// Has the service manager show how the tokens stand.
    pub(super) fn report_status(&mut self) {
        if self.manager.is_there() {
            self.manager.status(&status(&self.health.readiness()));
        }
    }

    /// Tells the service manager that the end has begun, and how long it may take.
    pub(super) fn report_end(&mut self) {
        let server = &self.settings.server;
        self.manager.stopping(server.drain_delay + server.drain_timeout + AFTER_DRAIN);
        if !server.drain_delay.is_zero() {
            self.manager.status("ending: not ready any more; requests are still served");
        }
    }
}

/// One line for `systemctl status`.
fn status(readiness: &Readiness) -> String {
    let tokens = &readiness.tokens;
    let word = if readiness.ready { "ready" } else { "not ready" };
    let usable = tokens.iter().filter(|token| USABLE.contains(&token.status.as_str())).count();
    let noun = if tokens.len() == 1 { "token" } else { "tokens" };
    let mut components = vec![format!("{word}; {usable} of {} {noun} usable", tokens.len())];
    let troubled: Vec<_> = tokens.iter().filter(|token| token.status != WELL).collect();
    let named = troubled.iter().take(MOST_NAMED);
    components.extend(named.map(|token| format!("{}: {}", token.name, token.status)));
    if let Some(more) = troubled.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        components.push(format!("{more} more"));
    }
    components.join("; ")
}

/// How the program stands once it accepts nothing new.
pub(super) const DRAINS: &str = "ending: finishing the requests under way";
/// For what follows the last request: tokens that are given back, the store, the log.
const AFTER_DRAIN: Duration = Duration::from_secs(5);
/// The states, as readiness has them, of tokens that requests go out with.
const USABLE: [&str; 2] = [WELL, "degraded"];
const WELL: &str = "valid";
/// Tokens that the line names.
const MOST_NAMED: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::TokenReadiness;

    #[test]
    fn the_status_counts_tokens_and_names_those_in_trouble() {
        let of = |ready, states: &[&str]| {
            let tokens = states.iter().enumerate().map(|(number, status)| TokenReadiness {
                name: format!("t{number}"),
                status: (*status).to_owned(),
                required: true,
            });
            status(&Readiness { ready, draining: false, tokens: tokens.collect(), missing: Vec::new() })
        };
        assert_eq!(of(true, &["valid"]), "ready; 1 of 1 token usable");
        assert_eq!(
            of(false, &["valid", "degraded", "login_required"]),
            "not ready; 2 of 3 tokens usable; t1: degraded; t2: login_required"
        );
        assert!(of(false, &["pending"; 5]).ends_with("; t2: pending; 2 more"));
    }
}
