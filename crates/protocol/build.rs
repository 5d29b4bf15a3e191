//! Compiles `proto/` with protox, so that no system `protoc` is needed.

use prost::Message as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    // tonic-prost-build emits no rerun lines of its own.
    println!("cargo:rerun-if-changed={}", root.display());
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let descriptors = protox::compile(&files, [&root])?;
    write_client_api(&root, &files)?;
    tonic_prost_build::configure()
        .bytes(".")
        // Hides what it holds, by hand.
        .skip_debug([".baton.internal.v1.CallbackSecret"])
        .compile_fds(descriptors)?;
    Ok(())
}

/// The descriptors that reflection serves: the client API only.
fn write_client_api(root: &Path, files: &[PathBuf]) -> Result<(), Box<dyn std::error::Error>> {
    let dir = root.join("baton/v1");
    let public = files.iter().filter(|file| file.starts_with(&dir));
    let descriptors = protox::compile(public, [root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("baton.v1.bin");
    Ok(std::fs::write(out, descriptors.encode_to_vec())?)
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            into.push(path);
        }
    }
    Ok(())
}
