//! The program under test, started as a user starts it: a configuration file and a command line.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::cgroup::Cgroup;
use super::curl::{Answer, curl};
use super::program::{Program, binary, free_address};
use super::wire::{Message, Wire};

/// How long the program may take to end: its own `drain_timeout` and some more.
const END: Duration = Duration::from_secs(20);

/// A configuration in the making: what a test says, and the addresses that it leaves to this.
#[derive(Clone, Debug)]
pub struct Config {
    /// Beside the address that every proxy has.
    listen: String,
    server: String,
    /// In place of the control surface's own address.
    control: Option<String>,
    rest: String,
    environment: Vec<(String, String)>,
    open_files: Option<u32>,
    /// Where the program puts itself into a control group.
    cgroup: Option<PathBuf>,
    /// What runs the program, and its arguments.
    launcher: Option<Vec<String>>,
}

impl Config {
    /// All but the sections `server`, `health` and `control`; `{listen}` stands for the proxy's own address.
    pub fn new(rest: impl Into<String>) -> Self {
        Self {
            listen: String::new(),
            server: "drain_timeout = \"10s\"\n".to_owned(),
            control: None,
            rest: rest.into(),
            environment: Vec::new(),
            open_files: None,
            cgroup: None,
            launcher: None,
        }
    }

    /// One route for everything, from upstream `api` with token `api`; see [`upstream_at`] and [`token_at`].
    pub fn one_route(upstream: &str, token: &str) -> Self {
        Self::new(format!("{upstream}{token}[[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"api\"\n"))
    }

    /// Lines at the end of the file: sections, or keys of the last one.
    pub fn and(mut self, lines: &str) -> Self {
        self.rest.push_str(lines);
        self.rest.push('\n');
        self
    }

    /// Lines in the section `server`.
    pub fn server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// The section `control`, in place of the one with an address of its own.
    pub fn control(mut self, lines: &str) -> Self {
        self.control = Some(lines.to_owned());
        self
    }

    /// One more address to listen on.
    pub fn listen(mut self, address: &str) -> Self {
        self.listen += &[", \"", address, "\""].concat();
        self
    }

    /// A variable of the environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// How many files and sockets the program may have open.
    pub fn open_files(mut self, limit: u32) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// The program runs in this control group from its first moment on.
    pub fn within(mut self, cgroup: &Cgroup) -> Self {
        self.cgroup = Some(cgroup.procs());
        self
    }

    /// The program is run by another, which these words start: `unshare --pid --fork`.
    pub fn run_by(mut self, words: &[&str]) -> Self {
        self.launcher = Some(words.iter().map(|&word| word.to_owned()).collect());
        self
    }

    /// The exit code of `cupbearer check --online`, and all that it writes.
    pub async fn checked_online(&self) -> (Option<i32>, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        fs::write(&file, self.render([free_address(), free_address(), free_address()])).unwrap();
        let mut command = cupbearer();
        command.envs(self.environment.iter().cloned()).args(["check", "--online", "--config"]).arg(&file);
        let output = command.output().await.unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    }

    /// The lines that the test gave, without the addresses.
    pub fn text(&self) -> String {
        self.rest.clone()
    }

    /// The whole file, with these addresses.
    pub fn render(&self, [listen, health, control]: [SocketAddr; 3]) -> String {
        let control = self.control.clone().unwrap_or_else(|| format!("listen = \"{control}\""));
        format!(
            "[server]\nlisten = [\"{listen}\"{}]\n{}\n[health]\nlisten = \"{health}\"\n\n[control]\n{control}\n\n{}",
            self.listen,
            self.server,
            self.rest.replace("{listen}", &listen.to_string())
        )
    }
}

/// The section of upstream `api`, open for more keys.
pub fn upstream_at(url: &str) -> String {
    format!("[upstreams.api]\nurl = \"{url}\"\n")
}

/// The section of token `api` for client `orders` at `token_endpoint`, open for more keys.
pub fn token_at(token_endpoint: &str) -> String {
    format!(
        "[tokens.api]\ntoken_endpoint = \"{token_endpoint}\"\ngrant = \"client_credentials\"\nclient_id = \"orders\"\n\
         client_auth = \"client_secret_basic\"\nclient_secret = \"{}\"\n",
        super::SECRET
    )
}

/// The program, running.
#[derive(Debug)]
pub struct Proxy {
    program: Program,
    place: Place,
}

/// Where it lives: what the next one at the same place finds again.
#[derive(Debug)]
struct Place {
    dir: TempDir,
    file: PathBuf,
    addresses: [SocketAddr; 3],
    environment: Vec<(String, String)>,
    open_files: Option<u32>,
    cgroup: Option<PathBuf>,
    launcher: Option<Vec<String>>,
}

/// A program that has ended, and can be started again at the same place.
#[derive(Debug)]
pub struct Stopped(Place);

impl Stopped {
    /// Its folder, where the configuration is.
    pub fn dir(&self) -> &Path {
        self.0.dir.path()
    }

    /// Runs a command of the program on the same configuration file.
    pub async fn command(&self, words: &[&str]) -> Output {
        let mut command = cupbearer();
        command.args(words).arg("--config").arg(&self.0.file);
        command.output().await.unwrap()
    }

    /// Started again, and alive.
    pub async fn start(self) -> Proxy {
        let mut proxy = self.spawn();
        proxy.until_live().await;
        proxy
    }

    /// Started again, this very moment.
    pub fn spawn(self) -> Proxy {
        Proxy::spawn(self.0)
    }
}

impl Proxy {
    /// Started, and ready to serve.
    pub async fn start(config: Config) -> Self {
        let mut proxy = Self::start_live(config).await;
        proxy.until_ready().await;
        proxy
    }

    /// Started and alive; whether it has a token is the test's affair.
    pub async fn start_live(config: Config) -> Self {
        Self::start_live_in(tempfile::tempdir().unwrap(), config).await
    }

    /// The same, in a folder that the test has put files into.
    pub async fn start_live_in(dir: TempDir, config: Config) -> Self {
        let addresses = [free_address(), free_address(), free_address()];
        let file = dir.path().join("config.toml");
        fs::write(&file, config.render(addresses)).unwrap();
        Self::launch(dir, file, addresses, config).await
    }

    /// The same, with the configuration file at a place of the test's choice. `lay` gets its text and says where it is.
    pub async fn start_laid_out(config: Config, lay: impl FnOnce(&Path, &str) -> PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let addresses = [free_address(), free_address(), free_address()];
        let file = lay(dir.path(), &config.render(addresses));
        let mut proxy = Self::launch(dir, file, addresses, config).await;
        proxy.until_ready().await;
        proxy
    }

    async fn launch(dir: TempDir, file: PathBuf, addresses: [SocketAddr; 3], config: Config) -> Self {
        let Config { environment, open_files, cgroup, launcher, .. } = config;
        let place = Place { dir, file, addresses, environment, open_files, cgroup, launcher };
        let mut proxy = Self::spawn(place);
        proxy.until_live().await;
        proxy
    }

    fn spawn(place: Place) -> Self {
        let mut command = match (place.open_files, &place.cgroup) {
            (None, None) if let Some([launcher, words @ ..]) = place.launcher.as_deref() => {
                let mut command = Program::peer(launcher, "util-linux");
                command.kill_on_drop(true).args(words).arg(cupbearer().as_std().get_program());
                command
            }
            (Some(limit), _) => limited(limit),
            (None, None) => cupbearer(),
            (None, Some(procs)) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]).arg(procs);
                shell.arg(cupbearer().as_std().get_program());
                shell
            }
        };
        command.arg("run").arg("--config").arg(&place.file);
        command.envs(place.environment.iter().cloned()).current_dir(place.dir.path());
        let program = Program::spawn("cupbearer", command, place.dir.path());
        Self { program, place }
    }

    /// Waits until it listens.
    async fn until_live(&mut self) {
        let live = self.health_url("/livez");
        self.program.until("live", || async { curl(&[&live]).await.status == 200 }).await;
    }

    /// Ends it as a power cut does, at once.
    pub async fn kill(mut self) -> Stopped {
        self.program.signal(Signal::KILL);
        self.program.ended(END).await;
        Stopped(self.place)
    }

    /// Ends it as an orchestrator does.
    pub async fn stop(mut self) -> Stopped {
        self.program.signal(Signal::TERM);
        let status = self.program.ended(END).await;
        assert!(status.success(), "{status}: {}", self.program.log());
        Stopped(self.place)
    }

    /// Waits until `/readyz` says yes.
    pub async fn until_ready(&mut self) {
        let ready = self.health_url("/readyz");
        self.program.until("ready", || async { curl(&[&ready]).await.status == 200 }).await;
    }

    /// Where applications call it.
    pub fn listen(&self) -> SocketAddr {
        self.place.addresses[0]
    }

    /// Where its control surface listens.
    pub fn control(&self) -> SocketAddr {
        self.place.addresses[2]
    }

    /// A URL at the proxy.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listen())
    }

    /// A URL at the health listener.
    pub fn health_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.place.addresses[1])
    }

    /// A GET through the proxy.
    pub async fn get(&self, path: &str) -> Answer {
        curl(&[&self.url(path)]).await
    }

    /// A connection to the proxy.
    pub async fn wire(&self) -> Wire {
        Wire::connect(self.listen()).await
    }

    /// Sends `head` and `body` as they are, with the right `Host`, and reads the answer.
    pub async fn exchange(&self, request: &str) -> Option<Message> {
        let mut wire = self.wire().await;
        let method = request.split(' ').next().unwrap_or_default().to_owned();
        wire.send(request.replace("{host}", &self.listen().to_string())).await;
        wire.response(&method).await
    }

    /// A GET through the proxy to an API that says in JSON what reached it (`api.mjs`), and took it.
    pub async fn accepted(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), self.log());
        answer.json()
    }

    /// What `/readyz` says.
    pub async fn readiness(&self) -> String {
        curl(&[&self.health_url("/readyz")]).await.text()
    }

    /// Whether it says that it is ready, now.
    pub async fn is_ready(&self) -> bool {
        curl(&[&self.health_url("/readyz")]).await.status == 200
    }

    /// Its metrics.
    pub async fn metrics(&self) -> String {
        curl(&[&self.health_url("/metrics")]).await.text()
    }

    /// The sum of a family's samples whose labels contain each of `labels` (`route="api"`).
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.metrics().await;
        metrics
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label)))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// What `/status` of the control surface says.
    pub async fn status(&self) -> Value {
        curl(&[&format!("http://{}/status", self.control())]).await.json()
    }

    /// Runs another command of the program beside it, on the same configuration file.
    pub async fn command(&self, words: &[&str]) -> Output {
        let mut command = cupbearer();
        command.args(words).arg("--config").arg(&self.place.file);
        command.output().await.unwrap()
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.place.file.clone()
    }

    /// Its folder, where the configuration is.
    pub fn dir(&self) -> &Path {
        self.place.dir.path()
    }

    /// Writes a new configuration file over the old one, at the same addresses, without a word to the program.
    pub fn rewrite(&self, config: &Config) {
        fs::write(self.place.dir.path().join("config.toml"), self.rendered(config)).unwrap();
    }

    /// A configuration's text at the addresses of this one.
    pub fn rendered(&self, config: &Config) -> String {
        config.render(self.place.addresses)
    }

    /// All that it has written so far.
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// The process itself.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Where health and metrics are.
    pub fn health_address(&self) -> SocketAddr {
        self.place.addresses[1]
    }

    /// Waits for the end that it was asked for before.
    pub async fn end(mut self) -> (ExitStatus, String) {
        let status = self.program.ended(END).await;
        (status, self.program.log())
    }

    /// Asks it to end, waits for that, and says how it ended and what it wrote.
    pub async fn terminate(self) -> (ExitStatus, String) {
        self.program.signal(Signal::TERM);
        self.end().await
    }
}

/// The program, with a limit of open files.
pub fn limited(open_files: u32) -> Command {
    let mut command = Command::new("sh");
    command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default()).kill_on_drop(true);
    command.arg("-c").arg(format!("ulimit -n {open_files}; exec \"$0\" \"$@\""));
    command.arg(binary());
    command
}

/// A command line of the program, without the environment of the test.
pub fn cupbearer() -> Command {
    let mut command = Command::new(binary());
    command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default()).kill_on_drop(true);
    command
}
