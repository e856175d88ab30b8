//! What a container takes of the machine.

use super::{Container, text};
use crate::support::{Origin, Program};

#[tokio::test]
async fn under_load_it_stays_within_its_memory() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let dir = tempfile::tempdir().unwrap();
    let (container, listen) = Container::between(&api, &server, dir.path()).await;
    let url = format!("http://{listen}/");
    let output = Program::peer("wrk", "wrk")
        .args(["-t1", "-c200", "-d4s", "--timeout=10s", &url])
        .output()
        .await
        .unwrap();
    let said = text(&output.stdout);
    assert!(said.contains("Requests/sec") && !said.contains("Non-2xx"), "{said}");
    assert_eq!(container.inspect("{{.State.Running}} {{.State.OOMKilled}}").await, "true false");
    let peak: u64 = container.status("VmHWM").await.trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 64 * 1024, "{peak} KiB");
}
