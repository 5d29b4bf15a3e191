//! `baton completion`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

#[derive(Debug, Args)]
#[command(after_help = "Example: baton completion bash > ~/.local/share/bash-completion/completions/baton")]
pub(super) struct CompletionArgs {
    /// Shell to complete for
    shell: Shell,
}

pub(super) fn run(args: &CompletionArgs) {
    clap_complete::generate(
        args.shell,
        &mut super::Cli::command(),
        "baton",
        &mut std::io::stdout(),
    );
}
