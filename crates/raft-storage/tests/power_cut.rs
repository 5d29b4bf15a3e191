//! Power cuts on a real file system: a loop-mounted ext4 that is shut down without flushing its journal. Every entry
//! acknowledged before the cut must be there afterwards. Needs root and loop devices; otherwise it prints "skipped".
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod common;

use common::{GROUP, REPLICA, Replica, submits};
use openraft::RaftLogReader as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const DIR: &str = "BATON_POWER_CUT_DIR";
const ROUNDS: u64 = 4;
/// EXT4_IOC_SHUTDOWN with NOLOGFLUSH.
const SHUTDOWN: &str = "
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))
";

/// A file system on a loop device; unmounted when dropped.
struct Mount {
    image: PathBuf,
    at: PathBuf,
}

impl Mount {
    fn create(dir: &Path) -> Result<Self, String> {
        let (image, at) = (dir.join("image"), dir.join("mount"));
        std::fs::create_dir(&at).unwrap();
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(128 << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let mount = Self { image, at };
        mount.mount()?;
        Ok(mount)
    }

    fn mount(&self) -> Result<(), String> {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&self.image)
            .arg(&self.at))
    }

    fn unmount(&self) -> Result<(), String> {
        run(Command::new("umount").arg(&self.at))
    }

    fn cut_power(&self) -> Result<(), String> {
        run(Command::new("python3").args(["-c", SHUTDOWN]).arg(&self.at))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

/// Ends the writer even when an assertion fails.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The child process: appends, applies, checkpoints now and then, and prints what is acknowledged.
#[tokio::test]
#[ignore = "started by the power cut test"]
async fn writer() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let mut replica = Replica::open_as(Path::new(&dir), &std::process::id().to_string());
    replica.replay().await;
    let mut index = replica.log.last_log_id().map_or(0, |id| id.index + 1);
    loop {
        replica.put(submits(1, index..index + 1)).await;
        writeln!(std::io::stderr(), "acknowledged {index}").unwrap();
        if index % 50 == 49 {
            replica.tables.checkpoint().await.unwrap();
        }
        index += 1;
    }
}

fn start_writer(dir: &Path) -> Writer {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Writer(child)
}

/// Reads acknowledgements until `index`, cuts, and returns the last one read before the cut began. Later ones are
/// indeterminate.
fn write_until(mount: &Mount, dir: &Path, index: u64) -> u64 {
    let mut writer = start_writer(dir);
    let mut lines = BufReader::new(writer.0.stderr.take().unwrap()).lines();
    let mut last = 0;
    let mut said = Vec::new();
    while last < index {
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("writer ended: {said:?}"))
            .unwrap();
        match line.strip_prefix("acknowledged ") {
            Some(number) => last = number.parse().unwrap(),
            None => said.push(line),
        }
    }
    mount.cut_power().unwrap();
    last
}

#[tokio::test]
async fn acknowledged_entries_survive_power_cuts() {
    let scratch = tempfile::tempdir().unwrap();
    let mount = match Mount::create(scratch.path()) {
        Ok(mount) => mount,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let dir = mount.at.join("data");
    std::fs::create_dir(&dir).unwrap();
    std::fs::File::open(&mount.at).unwrap().sync_all().unwrap();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        acknowledged = write_until(&mount, &dir, acknowledged + 60 + round * 37);
        mount.unmount().unwrap();
        mount.mount().unwrap();
        let mut replica = Replica::open_as(&dir, "after the cut");
        let entries = replica.log.try_get_log_entries(..).await.unwrap();
        assert!(
            entries.len() as u64 > acknowledged,
            "round {round} lost {acknowledged}"
        );
        for (entry, index) in entries.iter().zip(0..) {
            assert_eq!(*entry, submits(1, index..index + 1)[0], "round {round}");
        }
        assert!(
            replica.recovered.rebuilt_because.is_some(),
            "tables of another boot"
        );
        replica.replay().await;
        assert_eq!(replica.state_hash(), replica.hash_of_rows());
        assert_eq!(replica.log.replica_id(), REPLICA);
        replica
            .engine
            .group(GROUP, REPLICA)
            .unwrap()
            .clear_suspect()
            .unwrap();
        replica.crash();
    }
}
