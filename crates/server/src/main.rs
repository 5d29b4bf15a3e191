//! The `baton` binary; everything is in the library.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(baton_server::cli::main() as u8)
}
