//! Test the applications of `testdata/apps`: each is built, inspected and run as its users would.

mod guestbook;
mod proxy;
mod ticker;
mod todo;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::support::TestEnv;

/// A server started with `kiln run` on a free port, killed when dropped.
struct Served {
    child: Option<Child>,
    port: u16,
}

impl Served {
    /// Runs `kiln run -e PORT=… IMAGE` and waits until it accepts connections.
    fn start(env: &TestEnv, image: &str) -> Served {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let mut served =
            Served { child: Some(env.kiln(&["run", "--rm", "-e", &format!("PORT={port}"), image]).spawn()), port };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let child = served.child.as_mut().expect("running");
            if child.try_wait().expect("its status").is_some() || started.elapsed() > Duration::from_secs(60) {
                panic!("{image} does not serve:\n{}", served.stop().1);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        served
    }

    /// The body of `GET path`.
    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("receive");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer}"));
        assert!(head.contains(" 200 "), "{head}");
        body.to_owned()
    }

    /// Ends it with SIGTERM, like `docker stop`. Returns its exit code (128 + n after a signal) and its output.
    fn stop(&mut self) -> (i32, String) {
        let child = self.child.take().expect("running");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
        let out = child.wait_with_output().expect("wait");
        let code =
            std::os::unix::process::ExitStatusExt::signal(&out.status).map_or(out.status.code(), |s| Some(128 + s));
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        (code.unwrap_or(-1), said)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
