//! Waiting for servers that start beside the tests, on a machine that does much else.

use std::time::Duration;

use cupbearer_testing::clock;
use tokio::time::sleep;

use cupbearer_testing::Proxy;

/// How long anything may take that ends by itself.
const PATIENCE: Duration = Duration::from_secs(150);

/// Waits until `holds`; fails with `what` and the proxy's log where patience ends first.
pub(crate) async fn until<F, T>(what: &str, proxy: &Proxy, mut holds: F)
where
    F: FnMut() -> T,
    T: Future<Output = bool>,
{
    let start = clock::now();
    while !holds().await {
        let status = proxy.status().await;
        assert!(start.elapsed() < PATIENCE, "still not so: {what}\n{status}\n{}", proxy.log());
        sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until the proxy is ready.
pub(crate) async fn until_ready(proxy: &Proxy) {
    until("it is ready", proxy, || proxy.is_ready()).await;
}
