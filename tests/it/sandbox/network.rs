//! Test private networks and published ports.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use kiln::sandbox::{Cancel, Error, Hint, Network, Ports, Publish};

use super::{TestRoot, probe, root_only};

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Publishes port 8000 on this port of the host's loopback.
fn to_8000(port: u16) -> Publish {
    Publish { address: Some([127, 0, 0, 1].into()), host: Some(port), inside: 8000 }
}

#[test]
fn private_network_reaches_out_but_not_host_loopback() {
    // R-8, S-76
    root_only!();
    requires!(cc, pasta, tun);
    let root = TestRoot::new();
    probe(&root);
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let mut spec = root.sh(&format!(
        "probe connect {port}; probe loopback; grep -c . /proc/net/route; ls /sys/class/net; cat /etc/resolv.conf"
    ));
    spec.network = Network::Private;
    spec.resolv_conf = Some(b"nameserver 127.0.0.53\nsearch example.org\n".to_vec());
    let said = root.succeeds(&spec);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(&lines[..2], ["ECONNREFUSED", "ok"], "{said}");
    assert!(lines[2].parse::<u32>().unwrap() >= 2, "no route: {said}");
    assert!(lines[3..].iter().any(|line| !["lo"].contains(line)), "{said}");
    let server = lines.iter().find_map(|line| line.strip_prefix("nameserver ")).unwrap();
    assert!(!server.starts_with("127."), "{said}");
    assert!(lines.contains(&"search example.org"), "{said}");
    // The helper has ended.
    let marker = format!("/proc/{}/ns/net", std::process::id());
    assert!(!commands().iter().any(|line| line.contains(&marker)), "a helper still runs");
}

fn commands() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .collect()
}

#[test]
fn published_ports_forward_and_close_with_command() {
    root_only!();
    requires!(cc);
    let root = TestRoot::new();
    let port = free_port();
    probe(&root);
    let mut spec = root.spec(&["/bin/probe", "serve", "8000"]);
    spec.network = Network::None;
    let ports = Ports::listen(&[to_8000(port)]).unwrap();
    std::thread::scope(|scope| {
        let never = Cancel::new().unwrap();
        let command = scope.spawn(move || root.run_with_ports(&spec, ports, &never).unwrap().outcome.exit.code());
        let began = Instant::now();
        let answer = loop {
            assert!(began.elapsed() < Duration::from_secs(10), "nobody answers");
            std::thread::sleep(Duration::from_millis(20));
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let _ = stream.write_all(b"hello\n");
            let mut answer = String::new();
            match stream.read_to_string(&mut answer) {
                Ok(n) if n > 0 => break answer,
                _ => {}
            }
        };
        assert_eq!(answer, "got hello\n");
        assert_eq!(command.join().unwrap(), 0);
    });
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is still open");
}

#[test]
fn port_in_use_fails_before_command_runs() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(taken) = TcpListener::bind(address) else { continue };
        let taken = taken.local_addr().unwrap();
        for address in [None, Some(taken.ip())] {
            refused(Publish { address, host: Some(taken.port()), inside: 8000 });
        }
    }
}

fn refused(publish: Publish) {
    let error = Ports::listen(&[publish]).expect_err("it is taken");
    assert!(error.to_string().contains("Address already in use"), "{error}");
    assert!(!error.is_host() && error.hint() == Some(&Hint::PortInUse));
}

#[test]
fn cancelled_command_ends_its_port_forwarder() {
    root_only!();
    let root = TestRoot::new();
    let port = free_port();
    let mut spec = root.sh("sleep 60");
    spec.network = Network::None;
    let ports = Ports::listen(&[to_8000(port)]).unwrap();
    let cancel = Cancel::new().unwrap();
    std::thread::scope(|scope| {
        let command = scope.spawn(|| matches!(root.run_with_ports(&spec, ports, &cancel), Err(Error::Cancelled)));
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "it does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        cancel.cancel();
        assert!(command.join().unwrap());
    });
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is still open");
}
