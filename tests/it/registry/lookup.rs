//! Test what `pull` says about names of hosts that cannot be looked up: whether there is no such host, or no answer.

use std::net::{Ipv4Addr, UdpSocket};

use super::tls::hosted;
use crate::support::TestEnv;

/// Answers of a name server (RFC 1035 §4.1.1).
const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const REFUSED: u8 = 5;

/// Starts a name server, whose thread ends with the process; its address. It knows no address of any host.
fn name_server() -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 53, high, low | 1);
    let socket = UdpSocket::bind((address, 53)).expect("bind port 53 of a loopback address");
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let length_of_label = usize::from(query[12]);
            let code = match &query[13..13 + length_of_label] {
                b"silent" => continue,
                b"broken" => SERVER_FAILURE,
                b"refused" => REFUSED,
                b"empty" => NO_ERROR,
                _ => NO_SUCH_NAME,
            };
            // The question again, marked as a response with recursion.
            let mut answer = query[..length].to_vec();
            (answer[2], answer[3]) = (0x81, 0x80 | code);
            // Additional records of the question are not repeated.
            answer[6..12].fill(0);
            let question = 13 + query[12..length].iter().position(|byte| *byte == 0).expect("the end of the name") + 4;
            answer.truncate(question);
            socket.send_to(&answer, from).ok();
        }
    });
    address
}

#[test]
fn failed_lookup_says_whether_the_host_exists() {
    requires!(root);
    let server = name_server().to_string();
    let no_host = |host: &str| {
        format!(
            "error: https://{host}/v2/app/manifests/1: there is no host {host}\nhint: check the name: the host is its first part\n"
        )
    };
    let no_answer = |host: &str| {
        format!(
            "error: https://{host}/v2/app/manifests/1: cannot look up {host}: name servers do not answer or report a \
             failure\nhint: check the network and /etc/resolv.conf, or try again\n"
        )
    };
    // Nothing listens at the last address.
    let cases = [
        ("nowhere.test", &*server, no_host("nowhere.test")),
        ("empty.test", &server, no_host("empty.test")),
        ("broken.test", &server, no_answer("broken.test")),
        ("refused.test", &server, no_answer("refused.test")),
        ("silent.test", &server, no_answer("silent.test")),
        ("nowhere.test", "127.0.0.77", no_answer("nowhere.test")),
    ];
    std::thread::scope(|scope| {
        for (host, dns, want) in &cases {
            scope.spawn(move || {
                let env = TestEnv::new();
                let (code, said) = hosted(&env, &format!("pull {host}/app:1"), &[], dns);
                assert_eq!((code, &said), (Some(3), want), "{host}");
            });
        }
    });
}
