//! `baton top`: the cluster at a glance, again and again.

mod screen;
mod snapshot;

use super::connect::ConnectArgs;
use super::values::parse_duration;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use screen::{Key, Screen};
use snapshot::{Rates, Snapshot};
use std::io::IsTerminal as _;
use std::time::Duration;

/// Shortest pause between two looks: each costs the cluster a few calls.
const EVERY_MIN: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(
    long_about = "Nodes, groups and the longest backlogs, looked at again and again. q ends it. Without a terminal, or \
        with --once or -o json, it looks once.",
    after_help = "Example: baton top --once -o json"
)]
pub(super) struct TopArgs {
    /// Look once and end
    #[arg(long)]
    once: bool,
    /// Pause between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    every: Duration,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: TopArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let first = Snapshot::take(&client).await?;
    let live = out.is_for_people()
        && !args.once
        && std::io::stdout().is_terminal()
        && std::io::stdin().is_terminal();
    if !live {
        out.result(&first, &first.tables(&Rates::default()));
        return Ok(());
    }
    let every = args.every.max(EVERY_MIN);
    let mut screen = Screen::open()?;
    let mut before = first;
    screen.draw(&before.lines(&Rates::default()))?;
    loop {
        match screen.key(every).await? {
            Some(Key::Quit) => return Ok(()),
            Some(Key::Other) | None => {}
        }
        match Snapshot::take(&client).await {
            Ok(now) => {
                let rates = Rates::between(&before, &now);
                screen.draw(&now.lines(&rates))?;
                before = now;
            }
            // A cluster in trouble is what one wants to look at.
            Err(failure) => {
                let mut lines = before.lines(&Rates::default());
                lines.insert(0, format!("{failure} (shown: the last look)"));
                screen.draw(&lines)?;
            }
        }
    }
}
