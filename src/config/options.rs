//! What the command line says about the configuration as a whole.

/// What the command line says about the configuration as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `--insecure-plaintext`: `http` to authorization servers and upstreams beyond loopback. Secrets and tokens go
    /// out in the clear then.
    pub insecure_plaintext: bool,
}
