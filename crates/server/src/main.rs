//! The `baton` binary; everything is in the library.

/// Many small, short-lived buffers cross threads here: the system's allocator took a sixth of a node's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(baton_server::cli::main() as u8)
}
