//! Test repositories behind a real SSH server (C-25, O-34). Hosts are verified against `~/.ssh/known_hosts`;
//! authentication uses the user's agent or the keys of `--ssh`.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::sh;
use crate::support::TestEnv;
use crate::support::dir::Dir;
use crate::support::env::each_user;

/// Debian's `sshd` on a free port, run by the user of the tests, with a key and a repository.
struct Server {
    child: Child,
    dir: Dir,
    /// `ssh://USER@127.0.0.1:PORT/…/r.git`
    url: String,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Server {
    fn start() -> Server {
        let dir = Dir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let user = Command::new("id").arg("-un").output().expect("run id");
        let user = String::from_utf8(user.stdout).expect("UTF-8").trim().to_owned();
        let at = dir.path();
        let git = "git -c user.name=n -c user.email=e";
        sh(at, "ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f key; cp key.pub allowed");
        sh(
            at,
            &format!(
                "git init -q -b main work; cd work; echo one >f; mkdir sub; printf 'FROM scratch\\nCOPY f /\\n' >Dockerfile; echo g >sub/g; git add -A; {git} commit -qm one; cd ..; git clone -q --bare work r.git"
            ),
        );
        // As root, sshd requires this directory.
        if crate::support::requires::is_root() {
            fs::create_dir_all("/run/sshd").expect("create");
        }
        let port = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address").port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nPidFile none\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {0}/allowed\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin yes\n",
            at.display()
        );
        fs::write(at.join("config"), config).expect("write");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(at.join("config"))
            .stderr(Stdio::from(fs::File::create(at.join("log")).expect("create")))
            .spawn()
            .expect("start sshd");
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "{}", fs::read_to_string(at.join("log")).expect("read"));
            std::thread::sleep(Duration::from_millis(20));
        }
        let url = format!("ssh://{user}@127.0.0.1:{port}{}/r.git", at.display());
        Server { child, dir, url, port }
    }

    /// Adds the host key to the `known_hosts` file of `env`.
    fn add_known_host(&self, env: &TestEnv) {
        let home = env.dir().join("home/.ssh");
        fs::create_dir_all(&home).expect("create");
        let key = fs::read_to_string(self.dir.path().join("host.pub")).expect("read");
        fs::write(home.join("known_hosts"), format!("[127.0.0.1]:{} {key}", self.port)).expect("write");
    }

    /// A copy of the key for `env`'s user.
    fn key(&self, env: &TestEnv) -> PathBuf {
        let dir = env.context("-- key 0644 --\n");
        fs::copy(self.dir.path().join("key"), dir.join("key")).expect("copy");
        fs::set_permissions(dir.join("key"), fs::Permissions::from_mode(0o644)).expect("chmod");
        dir.join("key")
    }
}

/// The user's agent with the server's key in it.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Agent {
    fn start(env: &TestEnv, server: &Server) -> Agent {
        let socket = env.dir().join("agent");
        let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn();
        let agent = Agent { child: child.expect("start ssh-agent"), socket };
        let began = Instant::now();
        let add = || {
            let key = server.dir.path().join("key");
            let out = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &agent.socket).output();
            out.expect("run ssh-add").status.success()
        };
        while !add() {
            assert!(began.elapsed() < Duration::from_secs(20), "the agent does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        // An agent serves only its own user and root.
        if crate::support::requires::is_root() {
            fs::set_permissions(&agent.socket, fs::Permissions::from_mode(0o777)).expect("chmod");
        }
        agent
    }
}

#[test]
fn ssh_repository_is_fetched_with_given_key() {
    // C-25
    requires!(git, sshd, ssh_keygen, ssh_agent, ssh_add);
    for env in each_user() {
        let server = Server::start();
        let key = format!("default={}", server.key(&env).display());
        let context =
            env.context(&format!("-- Dockerfile --\nFROM scratch\nADD {0} /r/\nADD {0}#main:sub /s/\n", server.url));
        // The host is not known yet.
        let unknown = env.build(&["--ssh", &key], &context).fails(1);
        unknown.says("Host key verification failed").says("~/.ssh/known_hosts");
        server.add_known_host(&env);
        // No credentials are given.
        let anonymous = env.build(&[], &context).fails(1);
        anonymous.says("Permission denied (publickey").says("--ssh default");
        env.build(&["--ssh", &key, "-t", "app"], &context).ok();
        let tree = env.image("app").tree();
        for path in ["r/f", "r/sub/g", "s/g"] {
            assert!(tree.0.contains_key(path), "{path}: {tree}");
        }
        env.build(&["--ssh", &key, "-t", "again"], &context).ok().says("CACHED [2/2] ADD");
        // As a context, and as a named one.
        let from = |args: &[&str], name: &str| {
            env.kiln(&[&["build", "--no-cache", "-t", name], args].concat()).ok();
            assert!(env.image(name).tree().0.contains_key("f"));
        };
        from(&["--ssh", &key, &server.url], "main-context");
        let dockerfile = env.context("-- Dockerfile --\nFROM scratch\nCOPY --from=r f /\n");
        let named = format!("r={}", server.url);
        from(&["--ssh", &key, "--build-context", &named, dockerfile.to_str().expect("UTF-8")], "named-context");
        env.assert_swept();
    }
}

#[test]
fn add_uses_ssh_agent_only_if_granted() {
    // O-34
    requires!(git, sshd, ssh_keygen, ssh_agent, ssh_add);
    let env = TestEnv::new();
    let server = Server::start();
    server.add_known_host(&env);
    let agent = Agent::start(&env, &server);
    let socket = agent.socket.to_str().expect("UTF-8");
    let context = env.context(&format!("-- Dockerfile --\nFROM scratch\nADD {} /\n", server.url));
    // An ADD in a Dockerfile must not use the user's agent unless --ssh grants it.
    let build = |args: &[&str]| env.build(args, &context).env("SSH_AUTH_SOCK", socket);
    build(&[]).fails(1).says("Permission denied (publickey").says("--ssh default");
    build(&["--ssh", "default", "-t", "app"]).ok();
    assert!(env.image("app").tree().0.contains_key("f"));
    build(&["--no-cache", "--ssh", &format!("default={socket}")]).ok();
    // A repository given as the context may use the agent.
    let done = env.kiln(&["build", "--no-cache", "-t", "context", &server.url]).env("SSH_AUTH_SOCK", socket).ok();
    assert!(env.image("context").tree().0.contains_key("f"), "{done}");
    env.kiln(&["check", &server.url]).env("SSH_AUTH_SOCK", socket).ok();
    env.assert_swept();
}
