//! A secret and when its file was written.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::oauth::{self, blocking};
use crate::secret::{Secret, SecretError, SecretSource};

/// Reads a secret and when its file was written, without holding up the runtime: the file may lie on a network that
/// hangs. The outer error is a defect.
pub(super) async fn dated(
    source: &SecretSource,
) -> Result<Result<(Secret<String>, Option<SystemTime>), SecretError>, oauth::Error> {
    let source = source.clone();
    let Some(file) = source.file().map(Path::to_owned) else { return Ok(source.read_dated()) };
    blocking(&file, move || source.read_dated()).await
}

/// How long the reading of a file may take before it is given up.
pub(super) const READ_PATIENCE: Duration = Duration::from_secs(10);
