//! `baton audit verify`: every chain, from the cluster or from an export.

use super::VerifyArgs;
use super::chain::{Chain, Head};
use super::source::{Source, heads_of, workspaces};
use crate::exit::{ExitCode, Failure};
use crate::output::Output;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

pub(super) async fn run(args: &VerifyArgs, out: Output) -> Result<(), Failure> {
    let earlier = match &args.against {
        Some(path) => read_heads(path)?,
        None => Vec::new(),
    };
    let (chains, events) = match &args.file {
        Some(path) => verify_file(path, &earlier)?,
        None => verify_cluster(&Source::new(&args.connect, &args.scope)?, &earlier).await?,
    };
    let compared = match &args.against {
        Some(path) => format!("; nothing up to {} has changed", path.display()),
        None => String::new(),
    };
    let document =
        json!({"ok": true, "chains": chains, "events": events, "compared": args.against.is_some()});
    if out.is_for_people() {
        out.line(format!(
            "{events} events in {chains} chains are as they were sealed{compared}"
        ));
    } else {
        out.result(&document, &[]);
    }
    Ok(())
}

async fn verify_cluster(source: &Source, earlier: &[Head]) -> Result<(usize, u64), Failure> {
    let heads = heads_of(&source.heads().await?)?;
    let mut chains = begin(&heads, earlier)?;
    for workspace_id in workspaces(&heads) {
        source
            .events(&workspace_id, |event| take(&mut chains, event))
            .await?;
    }
    match end(&chains) {
        Ok(done) => Ok(done),
        Err(fault) => {
            // Retention may have removed events while they were being read.
            let now = heads_of(&source.heads().await?)?;
            let moved = |head: &Head| {
                let before = heads.iter().find(|before| before.is_of(head));
                before.is_some_and(|before| before.anchor_sequence < head.anchor_sequence)
            };
            if now.iter().any(moved) {
                return Err(Failure::new(
                    ExitCode::Unavailable,
                    "retention removed events while they were read; run it again",
                ));
            }
            Err(fault)
        }
    }
}

fn verify_file(path: &Path, earlier: &[Head]) -> Result<(usize, u64), Failure> {
    let mut lines = open(path)?;
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut chains = begin(&heads_of(&first)?, earlier)?;
    for event in lines {
        take(&mut chains, &event?)?;
    }
    end(&chains)
}

fn begin(heads: &[Head], earlier: &[Head]) -> Result<Vec<Chain>, Failure> {
    if let Some(gone) = earlier
        .iter()
        .find(|before| !heads.iter().any(|head| head.is_of(before)))
    {
        return Err(fault(format!(
            "the chain of {:?} in group {} is gone: it had {} events",
            gone.workspace_id, gone.group_id, gone.sequence
        )));
    }
    let chains = heads.iter().map(|head| {
        let before = earlier.iter().find(|before| before.is_of(head));
        Chain::new(head.clone(), before.cloned()).map_err(fault)
    });
    chains.collect()
}

fn take(chains: &mut [Chain], event: &Value) -> Result<(), Failure> {
    match chains.iter_mut().find(|chain| chain.is_of(event)) {
        Some(chain) => chain.take(event).map_err(fault),
        // A chain that began after the heads were read, or one that no head vouches for.
        None if event["sequence"].as_u64() == Some(1) => Ok(()),
        None => Err(fault(format!(
            "event {} of workspace {} in group {} belongs to no head",
            event["sequence"], event["workspace_id"], event["group_id"]
        ))),
    }
}

fn end(chains: &[Chain]) -> Result<(usize, u64), Failure> {
    for chain in chains {
        chain.end().map_err(fault)?;
    }
    Ok((chains.len(), chains.iter().map(|chain| chain.events).sum()))
}

fn fault(what: String) -> Failure {
    Failure::failed(format!("audit does not hold: {what}"))
}

/// Heads of an earlier time: of a document with heads, or of the first line of an export.
fn read_heads(path: &Path) -> Result<Vec<Head>, Failure> {
    match open(path)?.next() {
        Some(Ok(first)) => heads_of(&first),
        Some(Err(_)) | None => {
            let bytes = crate::cli::values::read_input(path)?;
            let document: Value = serde_json::from_slice(&bytes)
                .map_err(|error| Failure::usage(format!("{} is no JSON: {error}", path.display())))?;
            heads_of(&document)
        }
    }
}

/// The lines of a file, each a JSON document.
fn open(path: &Path) -> Result<impl Iterator<Item = Result<Value, Failure>> + use<'_>, Failure> {
    let refused =
        move |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let lines = BufReader::new(File::open(path).map_err(refused)?).lines();
    Ok(lines.enumerate().map(move |(at, line)| {
        serde_json::from_str(&line.map_err(refused)?).map_err(|error| {
            Failure::usage(format!(
                "line {} of {} is no JSON: {error}",
                at + 1,
                path.display()
            ))
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// An export of a cluster, as `baton audit export` wrote it.
    const EXPORT: &str = include_str!("../../../tests/data/audit.jsonl");

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn verify(text: &str) -> Result<(usize, u64), Failure> {
        verify_file(file(text).path(), &[])
    }

    fn refused(text: &str) -> String {
        let failure = verify(text).unwrap_err();
        assert_eq!(failure.code, ExitCode::Failed, "{failure}");
        failure.line
    }

    fn without(line: usize) -> String {
        let lines = EXPORT.lines().enumerate().filter(|(at, _)| *at != line);
        lines.map(|(_, line)| format!("{line}\n")).collect()
    }

    #[test]
    fn an_export_of_a_real_cluster_verifies_and_a_change_of_it_does_not() {
        let lines: Vec<&str> = EXPORT.lines().collect();
        let (chains, events) = verify(EXPORT).unwrap();
        assert!(chains > 1, "{chains}");
        assert_eq!(events, lines.len() as u64 - 1);
        let changed = EXPORT.replacen("\"outcome\":\"approved\"", "\"outcome\":\"rejected\"", 1);
        assert_ne!(changed, EXPORT);
        assert!(refused(&changed).contains("is not what was sealed"));
        for line in 1..lines.len() {
            refused(&without(line));
        }
        let earlier = read_heads(file(lines[0]).path()).unwrap();
        assert!(verify_file(file(EXPORT).path(), &earlier).is_ok());
        let mut longer: Value = serde_json::from_str(lines[0]).unwrap();
        longer["heads"][0]["sequence"] = 99.into();
        let longer = read_heads(file(&longer.to_string()).path()).unwrap();
        assert!(verify_file(file(EXPORT).path(), &longer).is_err());
        let failure = verify("{}\n").unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage);
    }
}
