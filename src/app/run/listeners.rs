//! The program's listeners: those that the service manager passes, and those that it binds itself.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use socket2::Socket;
use tokio::net::TcpListener;

use super::Started;
use crate::app::components::StartError;
use crate::config::Settings;
use crate::control::ControlSettings;
use crate::net::activation::Passed;
use crate::net::bind;
use crate::net::local_address::LocalAddress;
use crate::net::local_listener::LocalListener;
use crate::proxy::{ListenError, Listeners};

/// All of them, bound and not served yet.
pub(super) struct Bound {
    pub(super) proxy: Listeners,
    pub(super) health: TcpListener,
    /// `None`: there is no control surface.
    pub(super) control: Option<LocalListener>,
    /// The control surface's on the loopback of IPv6.
    pub(super) other_control: Option<(LocalListener, SocketAddr)>,
    /// Where they are.
    pub(super) started: Started,
}

impl Bound {
    /// Takes what was passed first: what a user has to correct is found before what passes by itself.
    ///
    /// # Errors
    /// [`StartError::Passed`], [`StartError::Listen`]
    pub(super) async fn bind(settings: &Settings, mut passed: Passed) -> Result<Self, StartError> {
        let proxy = Listeners::passed(&settings.server.listen, &mut passed)?;
        let health = passed.take(&settings.health.listen.into(), NO_FILE)?;
        let (mut control, mut other_control) = (None, None);
        if let Some(address) = &settings.control.listen {
            control = passed.take(address, settings.control.unix_mode)?;
            if let Some(other) = other_loopback(&settings.control, address) {
                other_control = passed.take(&LocalAddress::Tcp(other), NO_FILE)?;
            }
        }
        passed.all_taken()?;

        let proxy = proxy
            .bind(&settings.server.listen)
            .map_err(|source| StartError::Listen { section: "server", source })?;
        let health = match health {
            Some(socket) => TcpListener::from_std(socket.into()),
            None => bind::listen(settings.health.listen).await,
        };
        let failed = |source| not_listening("health", settings.health.listen.into(), source);
        let health = health.map_err(failed)?;
        let health_address = health.local_addr().map_err(failed)?;
        let (control, control_address) = control_listener(&settings.control, control).await?.unzip();
        let other_control =
            other_listener(&settings.control, control_address.as_ref(), other_control).await?;
        let started = Started { proxy: proxy.addresses(), health: health_address, control: control_address };
        Ok(Self { proxy, health, control, other_control, started })
    }
}

/// The listener of the control surface and where it is; `None`: there is to be none.
async fn control_listener(
    settings: &ControlSettings,
    passed: Option<Socket>,
) -> Result<Option<(LocalListener, LocalAddress)>, StartError> {
    let Some(address) = &settings.listen else { return Ok(None) };
    let bound = match passed {
        Some(socket) => LocalListener::passed(address, socket).map(|listener| (listener, address.clone())),
        None => LocalListener::bind(address, settings.unix_mode).await,
    };
    bound.map(Some).map_err(|source| not_listening("control", address.clone(), source))
}

/// Beside a control surface at 127.0.0.1 that is at localhost: the same port of the loopback of IPv6.
fn other_loopback(settings: &ControlSettings, bound: &LocalAddress) -> Option<SocketAddr> {
    match bound {
        LocalAddress::Tcp(bound) if settings.both_loopbacks => {
            Some((Ipv6Addr::LOCALHOST, bound.port()).into())
        }
        _ => None,
    }
}

/// The listener there, where there is such a loopback.
async fn other_listener(
    settings: &ControlSettings,
    bound: Option<&LocalAddress>,
    passed: Option<Socket>,
) -> Result<Option<(LocalListener, SocketAddr)>, StartError> {
    let Some(address) = bound.and_then(|bound| other_loopback(settings, bound)) else { return Ok(None) };
    let local = LocalAddress::Tcp(address);
    let bound = match passed {
        Some(socket) => LocalListener::passed(&local, socket),
        None => LocalListener::bind(&local, settings.unix_mode).await.map(|(listener, _)| listener),
    };
    match bound {
        Ok(listener) => Ok(Some((listener, address))),
        Err(error) if bind::is_absent_loopback(address, &error) => {
            tracing::info!(%address, "there is no loopback of IPv6 here; 127.0.0.1 alone is listened on");
            Ok(None)
        }
        Err(error) => Err(not_listening("control", local, error)),
    }
}

fn not_listening(section: &'static str, address: LocalAddress, source: io::Error) -> StartError {
    StartError::Listen { section, source: ListenError { address, source } }
}

/// The mode of what has no file.
const NO_FILE: u32 = 0;
