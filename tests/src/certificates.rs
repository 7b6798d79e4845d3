//! Certificates of the tests' own: an authority, an engine at `127.0.0.1` and its clients, one of them too late.
//!
//! ```text
//! <dir>/engine/  client/  late/  stranger/       ca.pem, cert.pem, key.pem
//! ```
//! The stranger's are of an authority of his own, whom nobody else believes.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// A directory of certificates that goes with this.
#[derive(Debug)]
pub struct Certificates {
    root: TempDir,
}

impl Certificates {
    /// Makes them anew.
    pub fn make() -> Certificates {
        let root = tempfile::tempdir().expect("a temporary directory can be made");
        let authority = authority("the tests' authority");
        let engine = || leaf("engine", ExtendedKeyUsagePurpose::ServerAuth);
        let client = |name: &str| leaf(name, ExtendedKeyUsagePurpose::ClientAuth);
        let mut late = client("late");
        late.not_before = date_time_ymd(2020, 1, 1);
        late.not_after = date_time_ymd(2021, 1, 1);
        keep(&root.path().join("engine"), engine(), &authority);
        keep(&root.path().join("client"), client("client"), &authority);
        keep(&root.path().join("late"), late, &authority);
        let other = self::authority("another authority");
        keep(&root.path().join("stranger"), client("stranger"), &other);
        Certificates { root }
    }

    /// A directory with `ca.pem`, `cert.pem` and `key.pem` of one of them.
    pub fn of(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Flags of a daemon that verifies clients, on a port of the kernel's choice.
    pub fn flags(&self) -> Vec<String> {
        let file = |name: &str| self.of("engine").join(name).display().to_string();
        vec![
            "--tlsverify".into(),
            format!("--tlscacert={}", file("ca.pem")),
            format!("--tlscert={}", file("cert.pem")),
            format!("--tlskey={}", file("key.pem")),
            "-H=tcp://127.0.0.1:0".into(),
        ]
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params =
        CertificateParams::new(vec!["127.0.0.1".into()]).expect("an address is a valid name");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key can be made");
    CertifiedIssuer::self_signed(params, key).expect("an authority signs itself")
}

fn leaf(name: &str, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = named(name);
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params
}

fn keep(dir: &Path, params: CertificateParams, authority: &CertifiedIssuer<'_, KeyPair>) {
    let key = KeyPair::generate().expect("a key can be made");
    let cert = params.signed_by(&key, authority).expect("it can be signed");
    fs::create_dir(dir).expect("a fresh directory takes a folder");
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("cert.pem", cert.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        fs::write(dir.join(name), text).expect("a file can be written");
    }
}
