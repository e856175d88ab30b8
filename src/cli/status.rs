//! `cupbearer status`: each token of the running proxy at a glance.

use clap::Args;
use cupbearer::control::{self, ClientError};

use super::Answer;
use super::output::{answer, complain};
use super::reach::Reach;

/// Show each token: state, time left, last and next renewal, last error
#[derive(Debug, Args)]
pub(super) struct Status {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Status {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let status = match self.reach.client().status().await {
            Ok(status) => status,
            Err(error @ ClientError::NotRunning { .. }) => {
                complain(&error.to_string());
                return Ok(Answer::No);
            }
            Err(error) => return Err(error.into()),
        };
        if self.json {
            answer(&serde_json::to_string_pretty(&status)?)?;
        } else {
            answer(&table(&status))?;
        }
        Ok(Answer::Yes)
    }
}

fn table(status: &control::Status) -> String {
    let mut rows =
        vec![["TOKEN", "STATE", "EXPIRES IN", "NEXT RENEWAL", "RENEWALS", "FAILURES"].map(str::to_owned)];
    rows.extend(status.tokens.iter().map(|token| {
        [
            token.name.clone(),
            token.status.clone(),
            token.expires_in_seconds.map_or_else(|| "-".to_owned(), time_left),
            token.next_attempt_in_seconds.map_or_else(|| "-".to_owned(), time_left),
            token.renewals.to_string(),
            token.failures.to_string(),
        ]
    }));
    let widths: Vec<usize> =
        (0..6).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    for token in &status.tokens {
        if let Some(error) = &token.last_error {
            lines.push(format!(
                "\n{}: {} ({} in a row)",
                token.name, error.message, error.consecutive_failures
            ));
        }
    }
    lines.join("\n")
}

/// Seconds as a person reads them: `59s`, `4m05s`, `2h03m`, `3d4h`.
fn time_left(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::time_left;

    #[test]
    fn time_left_reads_at_a_glance() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (245, "4m05s"), (7380, "2h03m"), (273_600, "3d4h")] {
            assert_eq!(time_left(seconds), text);
        }
    }
}
