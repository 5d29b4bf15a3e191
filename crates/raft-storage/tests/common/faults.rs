//! A file system for the log engine that counts syncs, holds them back, and fails on demand.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "tests"
)]

use raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission, WriteExt};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

type Inner = DefaultFileSystem;

#[derive(Default)]
pub struct Faults {
    pub syncs: AtomicU64,
    pub fail_syncs: AtomicBool,
    pub fail_writes: AtomicBool,
    /// (held, number of syncs that wait)
    gate: Mutex<(bool, usize)>,
    moved: Condvar,
}

impl Faults {
    /// Syncs wait from now on.
    pub fn hold(&self) {
        self.gate.lock().unwrap().0 = true;
    }

    pub fn release(&self) {
        self.gate.lock().unwrap().0 = false;
        self.moved.notify_all();
    }

    /// Returns once a sync waits at the gate.
    pub fn wait_until_held(&self) {
        let gate = self.gate.lock().unwrap();
        drop(self.moved.wait_while(gate, |gate| gate.1 == 0).unwrap());
    }

    /// Whether a sync waits at the gate.
    pub fn try_held(&self) -> Option<()> {
        (self.gate.lock().unwrap().1 > 0).then_some(())
    }

    fn pass(&self) {
        let mut gate = self.gate.lock().unwrap();
        gate.1 += 1;
        self.moved.notify_all();
        gate = self.moved.wait_while(gate, |gate| gate.0).unwrap();
        gate.1 -= 1;
    }
}

pub struct FaultyFileSystem(pub Arc<Faults>);

pub struct FaultyHandle(Arc<<Inner as FileSystem>::Handle>, Arc<Faults>);

pub struct FaultyWriter(<Inner as FileSystem>::Writer, Arc<Faults>);

impl FileSystem for FaultyFileSystem {
    type Handle = FaultyHandle;
    type Reader = <Inner as FileSystem>::Reader;
    type Writer = FaultyWriter;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<FaultyHandle> {
        Ok(FaultyHandle(Arc::new(Inner {}.create(path)?), self.0.clone()))
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<FaultyHandle> {
        Ok(FaultyHandle(
            Arc::new(Inner {}.open(path, permission)?),
            self.0.clone(),
        ))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        Inner {}.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        Inner {}.rename(from, to)
    }

    fn new_reader(&self, handle: Arc<FaultyHandle>) -> io::Result<Self::Reader> {
        Inner {}.new_reader(handle.0.clone())
    }

    fn new_writer(&self, handle: Arc<FaultyHandle>) -> io::Result<FaultyWriter> {
        Ok(FaultyWriter(
            Inner {}.new_writer(handle.0.clone())?,
            self.0.clone(),
        ))
    }
}

impl Handle for FaultyHandle {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        Handle::truncate(&*self.0, offset)
    }

    fn file_size(&self) -> io::Result<usize> {
        self.0.file_size()
    }

    fn sync(&self) -> io::Result<()> {
        self.1.pass();
        if self.1.fail_syncs.load(Ordering::SeqCst) {
            return Err(io::Error::other("injected sync error"));
        }
        self.0.sync()?;
        self.1.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl Write for FaultyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.1.fail_writes.load(Ordering::SeqCst) {
            return Err(io::Error::other("injected write error"));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for FaultyWriter {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl WriteExt for FaultyWriter {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        WriteExt::truncate(&mut self.0, offset)
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        self.0.allocate(offset, size)
    }
}
