//! What flags and environment say, by section. The command line parser merges the two and shows both in `--help`.

mod client;
mod cluster;
mod notifier;
mod operator;
mod peer;
mod push;
mod telemetry;
mod tuning;

use clap::Args;
use client::ClientFlags;
use cluster::ClusterFlags;
use figment::value::{Dict, Value};
pub use notifier::NotifierFlags;
use operator::OperatorFlags;
use peer::PeerFlags;
pub use push::PushFlags;
use std::path::{Path, PathBuf};
use telemetry::TelemetryFlags;
use tuning::TuningFlags;

/// Settings from flags and `BATON_*` variables. Each one replaces the key of the file it names.
#[derive(Debug, Clone, Default, Args)]
pub struct Overrides {
    /// Name of this node in logs and status [key: name; default: node-<ordinal + 1>]
    #[arg(long, env = "BATON_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Directory of this node's log, tables and identity; created when missing, never shared
    /// [key: data_dir; default: baton-data]
    #[arg(long, env = "BATON_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub client: ClientFlags,
    #[command(flatten)]
    pub peer: PeerFlags,
    #[command(flatten)]
    pub operator: OperatorFlags,
    #[command(flatten)]
    pub cluster: ClusterFlags,
    #[command(flatten)]
    pub push: PushFlags,
    #[command(flatten)]
    pub notifier: NotifierFlags,
    #[command(flatten)]
    pub tuning: TuningFlags,
    #[command(flatten)]
    pub telemetry: TelemetryFlags,
}

impl Overrides {
    /// The values that were given, as a nested dictionary.
    pub(super) fn to_dict(&self) -> Dict {
        let mut values = Values::default();
        values.set("name", self.name.clone());
        values.set("data_dir", path(self.data_dir.as_deref()));
        self.client.put(&mut values);
        self.peer.put(&mut values);
        self.operator.put(&mut values);
        self.cluster.put(&mut values);
        self.push.put(&mut values);
        self.notifier.put(&mut values);
        self.tuning.put(&mut values);
        self.telemetry.put(&mut values);
        values.0
    }
}

/// A configuration in the making.
#[derive(Default)]
struct Values(Dict);

impl Values {
    /// `key` with its sections, as in `client.tls.cert`. An absent value leaves it alone.
    fn set(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            insert(&mut self.0, key, value.into());
        }
    }
}

fn path(path: Option<&Path>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

fn insert(dict: &mut Dict, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            dict.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let entry = dict
                .entry(section.to_owned())
                .or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}
