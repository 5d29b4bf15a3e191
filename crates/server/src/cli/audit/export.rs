//! `baton audit export`: a line with the heads, then a line per event, newest first.

use super::ExportArgs;
use super::source::{Source, heads_of, workspaces};
use crate::exit::Failure;
use crate::output::Output;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};

pub(super) async fn run(args: &ExportArgs, out: Output) -> Result<(), Failure> {
    let source = Source::new(&args.connect, &args.scope)?;
    let answer = source.heads().await?;
    let heads = heads_of(&answer)?;
    let mut to: Box<dyn Write> = match &args.out {
        None => Box::new(std::io::stdout()),
        Some(path) => Box::new(BufWriter::new(File::create(path).map_err(|error| {
            Failure::usage(format!("cannot write {}: {error}", path.display()))
        })?)),
    };
    line(&mut to, &json!({"heads": answer["heads"]}))?;
    let mut written = 0_u64;
    for workspace_id in workspaces(&heads) {
        let take = |event: &Value| {
            written += 1;
            line(&mut to, event)
        };
        source.events(&workspace_id, take).await?;
    }
    to.flush().map_err(lost)?;
    if let Some(path) = &args.out {
        out.line(format!("{written} events in {}", path.display()));
    }
    Ok(())
}

fn line(to: &mut dyn Write, value: &Value) -> Result<(), Failure> {
    writeln!(to, "{value}").map_err(lost)
}

fn lost(error: std::io::Error) -> Failure {
    Failure::failed(format!("the export was not written: {error}; it is of no use"))
}
