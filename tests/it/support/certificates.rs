//! Certificates for servers of tests, made by openssl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate and its key, as paths.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Pair {
    fn at(dir: &Path, name: &str) -> Pair {
        let path = |ending: &str| dir.join(format!("{name}.{ending}")).to_str().expect("UTF-8").to_owned();
        Pair { certificate: path("pem"), key: path("key") }
    }
}

/// A certificate authority in a directory. Guard tests with `requires!(openssl)`.
pub struct Authority {
    dir: PathBuf,
    own: Pair,
}

impl Authority {
    pub fn new(dir: &Path, name: &str) -> Authority {
        let own = self_signed(dir, name, None, true);
        Authority { dir: dir.to_owned(), own }
    }

    /// The path of its certificate.
    pub fn certificate(&self) -> &str {
        &self.own.certificate
    }

    /// A certificate for these names (`DNS:registry.test,IP:127.0.0.1`), which is valid today.
    pub fn issue(&self, name: &str, names: &str) -> Pair {
        let pair = Pair::at(&self.dir, name);
        let mut args = request(&pair, name);
        args.extend(["-x509", "-days", "2", "-CA", &self.own.certificate, "-CAkey", &self.own.key].map(str::to_owned));
        args.extend(["-addext", "basicConstraints=critical,CA:FALSE", "-addext"].map(str::to_owned));
        args.push(format!("subjectAltName={names}"));
        openssl(&args);
        pair
    }

    /// The same, valid only on the first day of 2020.
    pub fn issue_expired(&self, name: &str, names: &str) -> Pair {
        let pair = Pair::at(&self.dir, name);
        let path = |ending: &str| self.dir.join(format!("{name}.{ending}")).to_str().expect("UTF-8").to_owned();
        let wanted = Pair { certificate: path("csr"), key: pair.key.clone() };
        openssl(&request(&wanted, name));
        let conf = format!(
            "[ca]\ndefault_ca = ca\n[ca]\ndatabase = {}\nnew_certs_dir = {}\ndefault_md = sha256\npolicy = any\n\
             rand_serial = yes\nx509_extensions = server\n[any]\ncommonName = supplied\n[server]\nsubjectAltName = {names}\n",
            path("index"),
            self.dir.display()
        );
        fs::write(path("conf"), conf).expect("write");
        fs::write(path("index"), "").expect("write");
        let (conf, csr) = (path("conf"), path("csr"));
        let args = ["ca", "-batch", "-notext", "-config", &conf, "-in", &csr, "-out", &pair.certificate];
        let dates = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"];
        let keys = ["-cert", &self.own.certificate, "-keyfile", &self.own.key];
        openssl(&[&args[..], &dates, &keys].concat().into_iter().map(str::to_owned).collect::<Vec<_>>());
        pair
    }
}

/// A self-signed certificate, as an authority (the default of `openssl req`) or not.
pub fn self_signed(dir: &Path, name: &str, names: Option<&str>, authority: bool) -> Pair {
    let pair = Pair::at(dir, name);
    let mut args = request(&pair, name);
    args.extend(["-x509", "-days", "2", "-addext"].map(str::to_owned));
    args.push(format!("basicConstraints=critical,CA:{}", if authority { "TRUE" } else { "FALSE" }));
    if let Some(names) = names {
        args.extend(["-addext".to_owned(), format!("subjectAltName={names}")]);
    }
    openssl(&args);
    pair
}

fn request(pair: &Pair, name: &str) -> Vec<String> {
    let curve = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj"];
    let mut args: Vec<String> = curve.map(str::to_owned).to_vec();
    args.extend([format!("/CN={name}"), "-keyout".to_owned(), pair.key.clone(), "-out".to_owned()]);
    args.push(pair.certificate.clone());
    args
}

fn openssl(args: &[String]) {
    let made = Command::new("openssl").args(args).output().expect("run openssl");
    assert!(made.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&made.stderr));
}
