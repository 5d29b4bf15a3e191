//! `baton server`.

use crate::config::{Overrides, load};
use crate::exit::{EXIT_CODES_HELP, Failure};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(
    long_about = "Runs one node until SIGTERM or Ctrl-C, then hands leadership over and stops. Settings come from \
        built-in defaults, then the TOML file, then BATON_* variables, then flags; each flag names its variable and \
        the key it replaces.",
    after_help = EXIT_CODES_HELP
)]
pub(super) struct ServerArgs {
    /// Configuration file (TOML)
    #[arg(long, env = "BATON_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Shut down when standard input closes: a launcher holds the other end
    #[arg(long, hide = true)]
    exit_on_stdin_eof: bool,
    #[command(flatten)]
    overrides: Overrides,
}

pub(super) fn run(args: ServerArgs) -> Result<(), Failure> {
    let config = load(args.config.as_deref(), &args.overrides)?;
    crate::node::run(config, args.exit_on_stdin_eof)
}
