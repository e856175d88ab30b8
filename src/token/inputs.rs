//! What an attempt is made with, told apart without keeping it: a hash of the secrets and keys that its files hold.
//!
//! The rest of the inputs is the configuration, which stays the same as long as the token does. The renewer reads it
//! beside each attempt: what is refused now and worked before with the same inputs is not the configuration's fault.

use crate::oauth::blocking;
use crate::secret::SecretSource;

use super::settings::TokenSettings;
use super::store::Fingerprint;

/// The hash of all files that `settings` name; `None`: one of them cannot be read.
pub(super) async fn fingerprint(settings: &TokenSettings) -> Option<Fingerprint> {
    let mut contents = Vec::new();
    for file in settings.files() {
        let source = SecretSource::File(file.to_owned());
        contents.push(blocking(file, move || source.read()).await.ok()?.ok()?);
    }
    Some(Fingerprint::of(contents.iter().map(|content| content.expose().as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::renewer::tests::settings;
    use crate::token::settings::Origin;

    #[tokio::test]
    async fn inputs_are_told_apart_by_what_their_files_hold() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let settings = TokenSettings { origin: Origin::File(SecretSource::File(path.clone())), ..settings() };
        assert_eq!(fingerprint(&settings).await, None);
        std::fs::write(&path, "one").unwrap();
        let one = fingerprint(&settings).await;
        assert!(one.is_some() && one == fingerprint(&settings).await);
        std::fs::write(&path, "other").unwrap();
        assert_ne!(one, fingerprint(&settings).await);
        assert!(fingerprint(&crate::token::renewer::tests::settings()).await.is_some(), "none is named");
    }
}
