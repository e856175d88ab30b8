//! Secrets in files, read where a file system that hangs holds up nothing else.

use std::path::Path;

use crate::net::threads::{NotDone, SECRETS};
use crate::secret::{Secret, SecretSource};

use crate::oauth::error::Error;
use crate::oauth::error::kind::{ErrorKind, RequestFault};

/// Reads a secret without holding up the runtime: its file may lie on a network that hangs.
pub(crate) async fn read(source: &SecretSource) -> Result<Secret<String>, Error> {
    let secret = match source {
        SecretSource::Inline(_) | SecretSource::Env(_) => source.read(),
        SecretSource::File(path) => {
            let (path, source) = (path.clone(), source.clone());
            blocking(&path, move || source.read()).await?
        }
    };
    Ok(secret?)
}

/// The same, of a secret that is one line by its nature.
pub(in crate::oauth) async fn read_line(source: &SecretSource) -> Result<Secret<String>, Error> {
    let secret = read(source).await?;
    source.one_line(&secret)?;
    Ok(secret)
}

/// Does what may block on `file` where it holds up nothing else.
pub(crate) async fn blocking<T: Send + 'static>(
    file: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    SECRETS.run_on(file, work).await.map_err(|not_done| {
        Error::here(match not_done {
            NotDone::Panicked => ErrorKind::Request(RequestFault::Panicked),
            NotDone::NoThread | NotDone::Full => ErrorKind::Request(RequestFault::Machine(not_done)),
        })
    })
}
