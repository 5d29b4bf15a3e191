//! A file system around the engine's: measures syncs, and judges what recovery wants to cut off.
//!
//! The engine's own recovery cuts the last file at the first record it cannot read, whatever follows. Here a cut is
//! allowed only where a torn write can be: behind it lie preallocated zeros, or one single record. Anything else is
//! damage of acknowledged data and fails the open.

use crate::metrics as names;
use raft_engine::env::{FileSystem, Handle, Permission};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Length and offset at the head of an engine record.
const RECORD_HEADER_BYTES: usize = 16;
/// A log file's own header is shorter than this.
const FILE_HEADER_BYTES_MAX: u64 = 256;

#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Set while the engine opens.
    pub(super) recovering: AtomicBool,
    /// Something that was not zero has been cut.
    pub(super) cut: AtomicBool,
    /// Both queues recover at once and write the same marker file.
    marker: Mutex<()>,
}

pub(super) struct WatchedFileSystem<F> {
    inner: Arc<F>,
    watch: Arc<Watch>,
}

impl<F> WatchedFileSystem<F> {
    pub(super) fn new(inner: Arc<F>, watch: Arc<Watch>) -> Self {
        Self { inner, watch }
    }
}

impl<F: FileSystem> WatchedFileSystem<F> {
    fn handle(&self, path: &Path, inner: F::Handle) -> WatchedHandle<F> {
        WatchedHandle {
            file_system: self.inner.clone(),
            inner: Arc::new(inner),
            path: path.to_owned(),
            watch: self.watch.clone(),
        }
    }
}

pub(super) struct WatchedHandle<F: FileSystem> {
    file_system: Arc<F>,
    inner: Arc<F::Handle>,
    path: PathBuf,
    watch: Arc<Watch>,
}

impl<F: FileSystem> FileSystem for WatchedFileSystem<F> {
    type Handle = WatchedHandle<F>;
    type Reader = F::Reader;
    type Writer = F::Writer;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<Self::Handle> {
        let inner = self.inner.create(path.as_ref())?;
        Ok(self.handle(path.as_ref(), inner))
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<Self::Handle> {
        let inner = self.inner.open(path.as_ref(), permission)?;
        Ok(self.handle(path.as_ref(), inner))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.inner.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn new_reader(&self, handle: Arc<Self::Handle>) -> io::Result<Self::Reader> {
        self.inner.new_reader(handle.inner.clone())
    }

    fn new_writer(&self, handle: Arc<Self::Handle>) -> io::Result<Self::Writer> {
        self.inner.new_writer(handle.inner.clone())
    }
}

impl<F: FileSystem> Handle for WatchedHandle<F> {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        if self.watch.recovering.load(Ordering::Acquire) {
            self.judge_cut(offset as u64)?;
        }
        self.inner.truncate(offset)
    }

    fn file_size(&self) -> io::Result<usize> {
        self.inner.file_size()
    }

    fn sync(&self) -> io::Result<()> {
        let started = Instant::now();
        let result = self.inner.sync();
        metrics::counter!(names::LOG_SYNCS).increment(1);
        metrics::histogram!(names::LOG_SYNC_SECONDS).record(started.elapsed().as_secs_f64());
        result
    }
}

impl<F: FileSystem> WatchedHandle<F> {
    /// Allows a cut at `offset`, or says why it would lose acknowledged data.
    fn judge_cut(&self, offset: u64) -> io::Result<()> {
        let tail = self.read_from(offset)?;
        let Some(last) = tail.iter().rposition(|b| *b != 0) else {
            return Ok(());
        };
        let used = last as u64 + 1;
        let extension = self.path.extension().and_then(|e| e.to_str());
        if extension == Some("raftlog") {
            if !self.is_newest()? {
                return Err(self.damaged(offset));
            }
            if offset == 0 {
                // The file was being created; nothing in it has been acknowledged, unless there is more than a header.
                return if used > FILE_HEADER_BYTES_MAX {
                    Err(self.damaged(0))
                } else {
                    Ok(())
                };
            }
            if record_bytes(&tail).is_some_and(|record| used > record) {
                return Err(self.damaged(offset));
            }
        }
        tracing::warn!(file = %self.path.display(), offset, bytes = used, "torn log record is cut");
        // Remembered before it happens: a crash right after the cut must not hide it.
        let _one_at_a_time = super::engine::lock(&self.watch.marker);
        let dir = self.path.parent().unwrap_or(Path::new("."));
        crate::files::write_atomically(&super::suspects::marker(dir), b"")?;
        self.watch.cut.store(true, Ordering::Release);
        Ok(())
    }

    fn read_from(&self, offset: u64) -> io::Result<Vec<u8>> {
        let mut reader = self.file_system.new_reader(self.inner.clone())?;
        reader.seek(SeekFrom::Start(offset))?;
        let mut tail = Vec::new();
        reader.read_to_end(&mut tail)?;
        Ok(tail)
    }

    /// No later file of this queue exists. Names are zero-padded numbers.
    fn is_newest(&self) -> io::Result<bool> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        for entry in std::fs::read_dir(dir)? {
            let other = entry?.path();
            if other.extension() == self.path.extension() && other.file_name() > self.path.file_name() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn damaged(&self, offset: u64) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "log file {} is damaged at byte {offset}, before its last record; acknowledged data may be lost",
                self.path.display()
            ),
        )
    }
}

/// Length of the record at the start of `bytes`, where its header is plausible.
fn record_bytes(bytes: &[u8]) -> Option<u64> {
    let head = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
    let (length_and_kind, footer) = head.split_at(8);
    let length_and_kind = u64::from_be_bytes(length_and_kind.try_into().ok()?);
    let footer = u64::from_be_bytes(footer.try_into().ok()?);
    let length = length_and_kind >> 8;
    let kind = length_and_kind & 0xff;
    (kind <= 1 && footer >= RECORD_HEADER_BYTES as u64 && footer <= length).then_some(length)
}
