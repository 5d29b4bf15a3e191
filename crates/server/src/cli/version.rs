//! `baton version`.

use crate::output::{Output, table};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    profile: &'static str,
    target: String,
}

pub(super) fn run(out: Output) {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        profile: if cfg!(debug_assertions) { "dev" } else { "release" },
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    };
    let mut rows = table(&["baton", version.version]);
    rows.add_row(["target", version.target.as_str()]);
    rows.add_row(["profile", version.profile]);
    out.result(&version, &[rows]);
}
