//! `baton certs`.

use crate::certs::{CertificateRequest, Written, generate};
use crate::exit::Failure;
use crate::output::{Output, table};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct CertsArgs {
    #[command(subcommand)]
    command: CertsCommand,
}

#[derive(Debug, Subcommand)]
enum CertsCommand {
    /// Make an authority (unless DIR has one) and one certificate per name; files that exist are kept
    Generate(GenerateArgs),
}

#[derive(Debug, Args)]
struct GenerateArgs {
    /// Directory for ca.pem, ca.key and NAME/node.pem, NAME/node.key (keys with mode 0600)
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of a certificate and its first DNS name; repeat for more
    #[arg(long = "name", value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Further DNS name or IP address of every certificate; localhost and 127.0.0.1 are always in
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    cert: PathBuf,
    key: PathBuf,
    created: bool,
}

pub(super) fn run(args: CertsArgs, out: Output) -> Result<(), Failure> {
    let CertsCommand::Generate(args) = args.command;
    let request = CertificateRequest {
        out: args.out,
        names: args.names,
        hosts: args.hosts,
    };
    if let Some(bad) = request
        .names
        .iter()
        .find(|name| name.is_empty() || name.contains(['/', '\\']))
    {
        return Err(Failure::config(format!(
            "--name {bad:?} cannot name a directory; use a plain host name"
        )));
    }
    let written = generate(&request)?;
    let mut rows = table(&["certificate", "file", "state"]);
    let mut document = Vec::new();
    for Written {
        name,
        cert,
        key,
        created,
    } in written
    {
        let state = if created { "created" } else { "kept" };
        rows.add_row([name.clone(), cert.display().to_string(), state.to_owned()]);
        document.push(Row {
            name,
            cert,
            key,
            created,
        });
    }
    out.result(&document, &[rows]);
    Ok(())
}
