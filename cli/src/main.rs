//! The `plumeria` binary. What it does is in the library of this crate, so that job binaries can be clients and workers
//! of a cluster too.

fn main() -> std::process::ExitCode {
    plumeria_cli::plumeria()
}
