//! A private certificate authority and one certificate per node, for mutual TLS between nodes and for operators.
//! An authority made elsewhere is used through the `*.tls` settings directly, not through this module.

use crate::credentials::write_secret;
use crate::exit::Failure;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::path::{Path, PathBuf};

/// What to make.
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    /// Where `ca.pem`, `ca.key` and one folder per name are kept.
    pub out: PathBuf,
    /// Certificate names; each is also a DNS name of its certificate.
    pub names: Vec<String>,
    /// Further DNS names or IP addresses of every certificate.
    pub hosts: Vec<String>,
}

/// The files of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub name: String,
    pub cert: PathBuf,
    pub key: PathBuf,
    /// False when the files were there before and have been kept.
    pub created: bool,
}

/// Makes the authority unless it exists, and every certificate that does not exist.
///
/// # Errors
/// Files that cannot be read or written; half an authority.
pub fn generate(request: &CertificateRequest) -> Result<Vec<Written>, Failure> {
    create_dir(&request.out)?;
    let authority = authority(&request.out)?;
    let mut written = Vec::new();
    for name in &request.names {
        let dir = request.out.join(name);
        create_dir(&dir)?;
        let (cert, key) = (dir.join("node.pem"), dir.join("node.key"));
        let created = !cert.exists();
        if created {
            let (cert_text, key_text) = leaf(name, &request.hosts, &authority)?;
            write_secret(&key, &key_text)?;
            write_text(&cert, &cert_text)?;
        }
        written.push(Written {
            name: name.clone(),
            cert,
            key,
            created,
        });
    }
    Ok(written)
}

fn authority(out: &Path) -> Result<Issuer<'static, KeyPair>, Failure> {
    let (cert, key) = (out.join("ca.pem"), out.join("ca.key"));
    match (cert.exists(), key.exists()) {
        (true, true) => {
            let key = KeyPair::from_pem(&read(&key)?).map_err(failed)?;
            // Name and key are all that signing takes from the authority, and this command gave it its name.
            Ok(Issuer::new(authority_params()?, key))
        }
        (false, false) => {
            let params = authority_params()?;
            let pair = KeyPair::generate().map_err(failed)?;
            let own = params.self_signed(&pair).map_err(failed)?;
            write_secret(&key, &pair.serialize_pem())?;
            write_text(&cert, &own.pem())?;
            Ok(Issuer::new(params, pair))
        }
        (true, false) | (false, true) => Err(Failure::config(format!(
            "{} holds only one of ca.pem and ca.key; bring back the other or use an empty directory",
            out.display()
        ))),
    }
}

fn authority_params() -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "Baton cluster authority");
    Ok(params)
}

fn leaf(name: &str, hosts: &[String], authority: &Issuer<'_, KeyPair>) -> Result<(String, String), Failure> {
    let mut subjects = vec![name.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    subjects.extend(hosts.iter().cloned());
    subjects.dedup();
    let mut params = CertificateParams::new(subjects).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A node is server and client of the same link.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    let pair = KeyPair::generate().map_err(failed)?;
    let cert = params.signed_by(&pair, authority).map_err(failed)?;
    Ok((cert.pem(), pair.serialize_pem()))
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::failed(format!("cannot make the certificate: {error}"))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))
}

fn write_text(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

fn create_dir(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path)
        .map_err(|error| Failure::failed(format!("cannot create {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_of_two_runs_share_one_authority_and_fit_rustls() {
        let dir = tempfile::tempdir().unwrap();
        let request = |names: &[&str]| CertificateRequest {
            out: dir.path().to_path_buf(),
            names: names.iter().map(|&n| n.to_owned()).collect(),
            hosts: vec!["10.0.0.7".into()],
        };
        let first = generate(&request(&["node-1"])).unwrap();
        let ca = read(&dir.path().join("ca.pem")).unwrap();
        let both = generate(&request(&["node-1", "node-2"])).unwrap();
        assert_eq!(read(&dir.path().join("ca.pem")).unwrap(), ca);
        assert!(first[0].created && !both[0].created && both[1].created);
        for written in &both {
            let tls = crate::config::Tls {
                cert: Some(written.cert.clone()),
                key: Some(written.key.clone()),
                ca: Some(dir.path().join("ca.pem")),
            };
            crate::operator::tls::server_config(&tls, "operator")
                .unwrap()
                .unwrap();
        }
    }
}
