//! Runs a real registry on loopback.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::dir::Dir;

/// Debian's `docker-registry`, plain HTTP, on a random port; killed when dropped.
pub struct Registry {
    child: Child,
    port: u16,
    dir: Dir,
}

impl Registry {
    /// Starts a registry and waits until it accepts connections. Guard the test with `requires!(docker_registry)`.
    pub fn start() -> Registry {
        Registry::start_with("")
    }

    /// `extra` is added to the configuration file, for instance an `auth:` section.
    pub fn start_with(extra: &str) -> Registry {
        Registry::serve(Dir::new(), extra)
    }

    /// Restarts it with the same data and more configuration, on another port.
    pub fn restart_with(mut self, extra: &str) -> Registry {
        self.child.kill().ok();
        self.child.wait().ok();
        let dir = std::mem::replace(&mut self.dir, Dir::new());
        Registry::serve(dir, extra)
    }

    /// Kills it, as a crash does.
    pub fn crash(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Starts it again after [`Registry::crash`], at the same port, and waits until it accepts connections.
    pub fn come_back(&mut self) {
        let started = Instant::now();
        self.child = launch(self.dir.path());
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "docker-registry does not start again");
            std::thread::sleep(Duration::from_millis(10));
            // A connection of another test may have its port for a moment.
            if self.child.try_wait().expect("the registry's status").is_some() {
                self.child = launch(self.dir.path());
            }
        }
    }

    fn serve(dir: Dir, extra: &str) -> Registry {
        // Another process may take the port before the registry binds it; then try another port.
        for _ in 0..5 {
            let port =
                TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free loopback port").port();
            let config = format!(
                "version: 0.1\nlog:\n  level: error\nstorage:\n  delete:\n    \
                 enabled: true\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{extra}",
                dir.path().join("data").display()
            );
            std::fs::write(dir.path().join("config.yml"), config).expect("write the registry's configuration");
            let mut child = launch(dir.path());
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(20) {
                if child.try_wait().expect("the registry's status").is_some() {
                    break;
                }
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Registry { child, port, dir };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            child.kill().ok();
            child.wait().ok();
        }
        panic!("docker-registry does not start");
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `127.0.0.1:PORT/NAME`.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// The number of requests so far whose log line contains `words`, for example `GET /v2/app/manifests/latest`.
    pub fn requests(&self, words: &str) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("requests")).expect("read the access log");
        log.lines().filter(|line| line.contains(words)).count()
    }

    /// The data directory of the registry, to damage or search it.
    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// Pushes the image `tag` of an OCI layout as `name` with skopeo. Returns the full name.
    pub fn push_layout(&self, layout: &Path, tag: &str, name: &str) -> String {
        let full = self.name(name);
        let out = Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:{tag}", layout.display()))
            .arg(format!("docker://{full}"))
            .output()
            .expect("run skopeo");
        assert!(out.status.success(), "skopeo copy: {}", String::from_utf8_lossy(&out.stderr));
        full
    }
}

/// Starts a registry with the configuration in `dir`.
fn launch(dir: &Path) -> Child {
    let requests = std::fs::File::create(dir.join("requests")).expect("make the access log");
    Command::new("docker-registry")
        .arg("serve")
        .arg(dir.join("config.yml"))
        .stdin(Stdio::null())
        .stdout(requests)
        .stderr(Stdio::null())
        .spawn()
        .expect("start docker-registry")
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
